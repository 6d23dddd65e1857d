// A forest of features as flat arrays, and what applying it means.
#pragma once

#include <cstdint>

namespace synthkern {

// Shapes: K nodes, see synthkern/plan/forest.py.
struct Forest {
    int64_t num_nodes = 0, num_tops = 0, num_features = 0;
    const int32_t* feature = nullptr;      // [K]
    const int32_t* gate = nullptr;         // [K], -1 at the top
    const int32_t* child_begin = nullptr;  // [K]
    const int32_t* child_end = nullptr;    // [K]
    const uint8_t* scaled = nullptr;       // [K]
    const int32_t* group = nullptr;        // [K], -1 outside exclusive groups
    const int32_t* node_of = nullptr;      // [num_features], -1 outside the forest
    bool tops_grouped = false;             // some top is in an exclusive group
};

}  // namespace synthkern
