// The feature dictionary applied to samples in CSR form, and the gradients of that.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel.hpp"

namespace synthkern {

template <class T>
struct Csr {
    const int64_t* offsets;  // [batch + 1]
    const int32_t* indices;  // [nnz]
    const T* values;         // [nnz]
    int64_t batch, num_features;
};

// Samples of a dense tensor in CSR form, some consecutive ones to a part.
template <class T>
struct CsrPart {
    std::vector<int64_t> counts;  // entries of each sample
    std::vector<int32_t> indices;
    std::vector<T> values;
};

// The entries of activations [batch, num_features] that are not zero.
template <class T>
std::vector<CsrPart<T>> compress(const T* activations, int64_t batch, int64_t num_features,
                                 int threads, const Interrupt& interrupt);

// vectors: [num_features, dim]; bias: [dim]; hidden: [batch, dim].
template <class T>
void gather(const Csr<T>& csr, const T* vectors, int64_t dim, const T* bias, T* hidden, int threads,
            const Interrupt& interrupt);

// out: [num_features, dim] = activations^T grad, samples ascending; grad: [batch, dim].
template <class T>
void gather_grad_vectors(const Csr<T>& csr, const T* grad, int64_t dim, T* out, int threads,
                         const Interrupt& interrupt);

// out: [nnz], the product of the entry's feature vector with its sample's gradient.
template <class T>
void gather_grad_values(const Csr<T>& csr, const T* vectors, const T* grad, int64_t dim, T* out,
                        int threads, const Interrupt& interrupt);

}  // namespace synthkern
