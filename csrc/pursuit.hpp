// Matching pursuit through a dictionary, and the gradient of that.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel.hpp"

namespace synthkern {

// One batch: residuals start as `input` [batch, dim]; rows of the dictionary are `vectors`
// [width, dim], and their products with each other `gram` [width, width].
template <class T>
struct Pursuit {
    const T* input;
    const T* vectors;
    const T* gram;
    int64_t batch, width, dim;
    T residual_threshold;  // a sample ends below this norm of its residual; 0 for never
    int64_t iterations;
    bool stop_on_repeat;  // a sample ends with the first latent that it has chosen before
};

// What every sample chose, one after the other; choices end where nothing more would be added.
template <class T>
struct Choices {
    std::vector<int64_t> offsets;  // [batch + 1]
    std::vector<int32_t> indices;  // a latent may come again
    std::vector<T> values;         // above 0
};

// correlations: [batch, width], input vectors^T; used up.
template <class T>
Choices<T> pursue(const Pursuit<T>& pursuit, T* correlations, int threads,
                  const Interrupt& interrupt);

// Gradients from those of the values, grad [nnz]: grad_values [nnz] of each choice's product with
// its residual, those of later choices through the residual included; grad_input [batch, dim];
// grad_vectors [width, dim] by residuals and later choices, samples ascending.
template <class T>
void pursue_grad(const Pursuit<T>& pursuit, const int64_t* offsets, const int32_t* indices,
                 const T* values, const T* grad, T* grad_input, T* grad_vectors, int threads,
                 const Interrupt& interrupt);

}  // namespace synthkern
