// Features that are circles: magnitudes become points of the circles that phases of the stream
// choose. The definition is the docstring of synthkern/stream/__init__.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "philox.hpp"

namespace synthkern {

struct Manifolds {
    int dimension = 0;                   // circles of each; 0: there are no manifolds
    float part = 1;                      // of a magnitude, what a circle of several gets
    bool uniform = true;                 // phases; else these are 1 + r and 1 - r
    float high = 1, low = 1;             // of the concentration r
    const uint8_t* is_leader = nullptr;  // [N]
};

struct Plan;

// Puts the entries of a plan's manifolds in place of their leaders', from entry `first` on: one
// sample, features ascending.
void apply_manifolds(const Plan& plan, Key key, uint64_t index, size_t first,
                     std::vector<int32_t>& indices, std::vector<float>& values);

}  // namespace synthkern
