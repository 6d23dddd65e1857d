// Normal noise in hidden activations.
#pragma once

#include <cstdint>

#include "parallel.hpp"

namespace synthkern {

// Of covariance factor^T factor + diag(std^2).
struct Noise {
    const float* std;     // [dim]
    const float* factor;  // [rank, dim]
    int64_t rank, dim;
};

// Numbers of scratch memory that a sample's noise factors take.
constexpr int64_t noise_room(int64_t rank) { return (rank / 128 + 1) * 128; }

// Adds the noise of samples start ... start + batch - 1 (modulo 2**64) of the seed's stream.
// hidden: [batch, noise.dim].
template <class T>
void add_noise(const Noise& noise, uint64_t seed, uint64_t start, T* hidden, int64_t batch,
               int threads, const Interrupt& interrupt);

}  // namespace synthkern
