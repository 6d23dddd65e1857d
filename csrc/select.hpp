// Which latents are active: dense pre-activations [batch, width] to CSR.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel.hpp"

namespace synthkern {

template <class T>
struct OwnedCsr {
    std::vector<int64_t> offsets;  // [batch + 1]
    std::vector<int32_t> indices;  // ascending within a sample
    std::vector<T> values;         // of pre, never scaled
};

template <class T>
struct Dense {
    const T* pre;    // [batch, width]
    const T* scale;  // [width], or null for 1: keys are pre * scale
    int64_t batch, width;
    bool magnitude = false;  // keys are |pre * scale|
    // In place of pre: the bits of bfloat16 numbers, which are the upper halves of float32's.
    const uint16_t* bfloat16 = nullptr;
};

// The k largest keys of every sample, of equal ones those with the lowest index; only keys above 0
// where `positive`. NaN counts as the largest.
template <class T>
OwnedCsr<T> select_topk(const Dense<T>& dense, int64_t k, bool positive, int threads,
                        const Interrupt& interrupt);

// The `count` largest keys of the batch, of equal ones the first; `positive` as above.
template <class T>
OwnedCsr<T> select_batch_topk(const Dense<T>& dense, int64_t count, bool positive, int threads,
                              const Interrupt& interrupt);

// All pre-activations above their latent's bound; bounds: [width].
template <class T>
OwnedCsr<T> select_above(const Dense<T>& dense, const T* bounds, int threads,
                         const Interrupt& interrupt);

}  // namespace synthkern
