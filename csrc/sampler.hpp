// Samples of a plan: CSR, hidden activations or both.
#pragma once

#include <cstdint>
#include <vector>

#include "dictionary.hpp"
#include "noise.hpp"
#include "parallel.hpp"
#include "plan.hpp"

namespace synthkern {

using CsrChunk = CsrPart<float>;

struct Hidden {
    const float* vectors;  // [N, dim]
    int64_t dim;
    const float* bias;   // [dim]
    float* out;          // [count, dim]
    const Noise* noise;  // or null
};

// Samples start ... start + count - 1 (modulo 2**64) of the seed's stream. Returns the features
// where they are wanted, and writes hidden activations where `hidden` is not null.
std::vector<CsrChunk> sample(const Plan& plan, uint64_t seed, uint64_t start, int64_t count,
                             int threads, bool want_features, const Hidden* hidden,
                             const Interrupt& interrupt);

}  // namespace synthkern
