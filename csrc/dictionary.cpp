#include "dictionary.hpp"

#include <algorithm>
#include <vector>

#include "kernels.hpp"

namespace synthkern {

namespace {

constexpr int64_t kRows = 32;

void gather_row(const Csr<float>& csr, int64_t b, const float* vectors, int64_t dim,
                const float* bias, float* hidden) {
    const int64_t first = csr.offsets[b], end = csr.offsets[b + 1];
    const int64_t next_end = csr.offsets[std::min(b + 2, csr.batch)];
    kernels().gather_f32(csr.indices + first, csr.values + first, end - first, csr.indices + end,
                         next_end - end, vectors, dim, bias, hidden);
}

void gather_row(const Csr<double>& csr, int64_t b, const double* vectors, int64_t dim,
                const double* bias, double* hidden) {
    const int64_t first = csr.offsets[b];
    kernels().gather_f64(csr.indices + first, csr.values + first, csr.offsets[b + 1] - first,
                         vectors, dim, bias, hidden);
}

// Calls row(i) for i in [0, count), kRows to a chunk.
template <class Row>
void each_row(int64_t count, int threads, const Interrupt& interrupt, const Row& row) {
    parallel((count + kRows - 1) / kRows, threads, interrupt, [&] {
        return [&](int64_t chunk, Poll& poll) {
            const int64_t end = std::min(count, (chunk + 1) * kRows);
            for (int64_t i = chunk * kRows; i < end && !poll.stopped(); ++i) row(i);
        };
    });
}

}  // namespace

template <class T>
std::vector<CsrPart<T>> compress(const T* activations, int64_t batch, int64_t num_features,
                                 int threads, const Interrupt& interrupt) {
    constexpr int64_t step = 16;  // numbers that are looked at together: almost all are zero
    std::vector<CsrPart<T>> parts(size_t((batch + kRows - 1) / kRows));
    each_row(batch, threads, interrupt, [&](int64_t b) {
        CsrPart<T>& part = parts[size_t(b / kRows)];
        const T* row = activations + b * num_features;
        const size_t before = part.indices.size();
        for (int64_t first = 0; first < num_features; first += step) {
            const int64_t end = std::min(num_features, first + step);
            bool any = false;
            for (int64_t j = first; j < end; ++j) any |= row[j] != 0;
            if (!any) continue;
            // All are written and those kept stepped over: where many fire, as in toy worlds, a
            // branch for each would be guessed wrong as often as not.
            size_t kept = part.indices.size();
            part.indices.resize(kept + size_t(end - first));
            part.values.resize(kept + size_t(end - first));
            for (int64_t j = first; j < end; ++j) {
                part.indices[kept] = int32_t(j);
                part.values[kept] = row[j];
                kept += row[j] != 0;
            }
            part.indices.resize(kept);
            part.values.resize(kept);
        }
        part.counts.push_back(int64_t(part.indices.size() - before));
    });
    return parts;
}

template <class T>
void gather(const Csr<T>& csr, const T* vectors, int64_t dim, const T* bias, T* hidden, int threads,
            const Interrupt& interrupt) {
    each_row(csr.batch, threads, interrupt,
             [&](int64_t b) { gather_row(csr, b, vectors, dim, bias, hidden + b * dim); });
}

namespace {

// The product of each entry's feature vector with its sample's gradient.
void dot_row(const int32_t* indices, int64_t count, const float* vectors, int64_t dim,
             const float* from, float* out) {
    kernels().dot_f32(indices, nullptr, count, vectors, from, dim, out);
}

void dot_row(const int32_t* indices, int64_t count, const double* vectors, int64_t dim,
             const double* from, double* out) {
    for (int64_t i = 0; i < count; ++i) {
        const double* row = vectors + int64_t{indices[i]} * dim;
        double sum = 0;
        for (int64_t d = 0; d < dim; ++d) sum += row[d] * from[d];
        out[i] = sum;
    }
}

}  // namespace

template <class T>
void gather_grad_vectors(const Csr<T>& csr, const T* grad, int64_t dim, T* out, int threads,
                         const Interrupt& interrupt) {
    // By feature, so that threads write to rows of their own and the order of addition is fixed:
    // the gather of the transposed activations.
    const int64_t nnz = csr.offsets[csr.batch];
    std::vector<int64_t> begin(size_t(csr.num_features) + 1, 0);
    for (int64_t i = 0; i < nnz; ++i) ++begin[size_t(csr.indices[i]) + 1];
    for (size_t j = 0; j < size_t(csr.num_features); ++j) begin[j + 1] += begin[j];
    std::vector<T> values(size_t(nnz), 0), zeros(size_t(dim), 0);
    std::vector<int32_t> sample(size_t(nnz), 0);
    std::vector<int64_t> next(begin);
    for (int64_t b = 0; b < csr.batch; ++b) {
        for (int64_t i = csr.offsets[b]; i < csr.offsets[b + 1]; ++i) {
            const size_t to = size_t(next[size_t(csr.indices[i])]++);
            values[to] = csr.values[i];
            sample[to] = int32_t(b);
        }
    }
    const Csr<T> turned{begin.data(), sample.data(), values.data(), csr.num_features, csr.batch};
    gather(turned, grad, dim, zeros.data(), out, threads, interrupt);
}

template <class T>
void gather_grad_values(const Csr<T>& csr, const T* vectors, const T* grad, int64_t dim, T* out,
                        int threads, const Interrupt& interrupt) {
    each_row(csr.batch, threads, interrupt, [&](int64_t b) {
        const int64_t first = csr.offsets[b];
        dot_row(csr.indices + first, csr.offsets[b + 1] - first, vectors, dim, grad + b * dim,
                out + first);
    });
}

#define SYNTHKERN_INSTANTIATE(T)                                                                  \
    template std::vector<CsrPart<T>> compress(const T*, int64_t, int64_t, int, const Interrupt&); \
    template void gather(const Csr<T>&, const T*, int64_t, const T*, T*, int, const Interrupt&);  \
    template void gather_grad_vectors(const Csr<T>&, const T*, int64_t, T*, int,                  \
                                      const Interrupt&);                                          \
    template void gather_grad_values(const Csr<T>&, const T*, const T*, int64_t, T*, int,         \
                                     const Interrupt&);
SYNTHKERN_INSTANTIATE(float)
SYNTHKERN_INSTANTIATE(double)
#undef SYNTHKERN_INSTANTIATE

}  // namespace synthkern
