#include "pursuit.hpp"

#include <algorithm>
#include <cmath>

#include "kernels.hpp"

namespace synthkern {

namespace {

constexpr int64_t kRows = 8;

int64_t subtract_and_find(float* correlations, float value, const float* row, int64_t n) {
    return kernels().subtract_and_find(correlations, value, row, n);
}

int64_t subtract_and_find(double* correlations, double value, const double* row, int64_t n) {
    double most = 0;
    int64_t place = -1;
    for (int64_t j = 0; j < n; ++j) {
        correlations[j] -= value * row[j];
        if (correlations[j] > most) {
            most = correlations[j];
            place = j;
        }
    }
    return place;
}

// Sixteen partial sums, so that the compiler keeps them in vector registers.
template <class T>
T dot(const T* a, const T* b, int64_t n) {
    constexpr int64_t kPartial = 16;
    T part[kPartial] = {};
    int64_t d = 0;
    for (; d + kPartial <= n; d += kPartial)
        for (int64_t c = 0; c < kPartial; ++c) part[c] += a[d + c] * b[d + c];
    for (int64_t c = 0; d < n; ++d, ++c) part[c] += a[d] * b[d];
    for (int64_t half = kPartial / 2; half > 0; half /= 2)
        for (int64_t c = 0; c < half; ++c) part[c] += part[c + half];
    return part[0];
}

// to += value * from
template <class T>
void add(T* to, T value, const T* from, int64_t n) {
    for (int64_t d = 0; d < n; ++d) to[d] += value * from[d];
}

template <class T>
void pursue_sample(const Pursuit<T>& p, const T* input, T* correlations, std::vector<T>& residual,
                   std::vector<int32_t>& indices, std::vector<T>& values, Poll& poll) {
    std::copy(input, input + p.dim, residual.begin());
    const size_t first = indices.size();
    int64_t j = subtract_and_find(correlations, T(0), p.gram, p.width);
    for (int64_t t = 0; t < p.iterations && j >= 0; ++t) {
        const T* row = p.vectors + j * p.dim;
        // From the residual itself: the correlations, updated many times, only say where.
        const T value = dot(residual.data(), row, p.dim);
        if (!(value > 0) || (t % 64 == 63 && poll.stopped())) return;
        const bool repeated = std::find(indices.begin() + std::ptrdiff_t(first), indices.end(),
                                        int32_t(j)) != indices.end();
        indices.push_back(int32_t(j));
        values.push_back(value);
        if (p.stop_on_repeat && repeated) return;
        add(residual.data(), -value, row, p.dim);
        const T norm = std::sqrt(dot(residual.data(), residual.data(), p.dim));
        if (p.residual_threshold > 0 && norm < p.residual_threshold) return;
        if (t + 1 < p.iterations)
            j = subtract_and_find(correlations, value, p.gram + j * p.width, p.width);
    }
}

}  // namespace

template <class T>
Choices<T> pursue(const Pursuit<T>& p, T* correlations, int threads, const Interrupt& interrupt) {
    struct Part {
        std::vector<int64_t> counts;
        std::vector<int32_t> indices;
        std::vector<T> values;
    };
    std::vector<Part> parts(size_t((p.batch + kRows - 1) / kRows));
    parallel(int64_t(parts.size()), threads, interrupt, [&] {
        return [&, residual = std::vector<T>(size_t(p.dim))](int64_t chunk, Poll& poll) mutable {
            Part& part = parts[size_t(chunk)];
            const int64_t end = std::min(p.batch, (chunk + 1) * kRows);
            for (int64_t b = chunk * kRows; b < end && !poll.stopped(); ++b) {
                const size_t before = part.indices.size();
                pursue_sample(p, p.input + b * p.dim, correlations + b * p.width, residual,
                              part.indices, part.values, poll);
                part.counts.push_back(int64_t(part.indices.size() - before));
            }
        };
    });
    Choices<T> all;
    all.offsets.push_back(0);
    for (const Part& part : parts) {
        for (const int64_t count : part.counts) all.offsets.push_back(all.offsets.back() + count);
        all.indices.insert(all.indices.end(), part.indices.begin(), part.indices.end());
        all.values.insert(all.values.end(), part.values.begin(), part.values.end());
    }
    return all;
}

template <class T>
void pursue_grad(const Pursuit<T>& p, const int64_t* offsets, const int32_t* indices,
                 const T* values, const T* grad, T* grad_input, T* grad_vectors, int threads,
                 const Interrupt& interrupt) {
    // Choices' shares of the vectors' gradients wait for a stretch of samples and are then added
    // by latent, so that no two threads add to a row and the order is that of the samples.
    constexpr int64_t kStretch = 128, kLatents = 64;
    const int64_t dim = p.dim;
    std::fill(grad_vectors, grad_vectors + p.width * dim, T(0));
    std::vector<T> shares;
    std::vector<std::vector<int64_t>> of_latents(size_t((p.width + kLatents - 1) / kLatents));
    for (int64_t begin = 0; begin < p.batch; begin += kStretch) {
        const int64_t end = std::min(p.batch, begin + kStretch), base = offsets[begin];
        shares.resize(size_t((offsets[end] - base) * dim));
        parallel((end - begin + kRows - 1) / kRows, threads, interrupt, [&] {
            return [&, residual = std::vector<T>(size_t(dim))](int64_t chunk, Poll& poll) mutable {
                const int64_t last = std::min(end, begin + (chunk + 1) * kRows);
                for (int64_t b = begin + chunk * kRows; b < last && !poll.stopped(); ++b) {
                    // Before each choice forwards, after it backwards.
                    std::copy(p.input + b * dim, p.input + (b + 1) * dim, residual.begin());
                    for (int64_t i = offsets[b]; i < offsets[b + 1]; ++i) {
                        std::copy(residual.begin(), residual.end(),
                                  shares.begin() + std::ptrdiff_t((i - base) * dim));
                        add(residual.data(), -values[i], p.vectors + indices[i] * dim, dim);
                    }
                    T* later = grad_input + b * dim;
                    std::fill(later, later + dim, T(0));
                    for (int64_t i = offsets[b + 1] - 1; i >= offsets[b]; --i) {
                        const T* row = p.vectors + indices[i] * dim;
                        T* share = shares.data() + (i - base) * dim;
                        const T own = grad[i] - dot(later, row, dim);
                        for (int64_t d = 0; d < dim; ++d)
                            share[d] = own * share[d] - values[i] * later[d];
                        add(later, own, row, dim);
                    }
                }
            };
        });
        for (std::vector<int64_t>& entries : of_latents) entries.clear();
        for (int64_t i = base; i < offsets[end]; ++i)
            of_latents[size_t(indices[i] / kLatents)].push_back(i);
        parallel(int64_t(of_latents.size()), threads, interrupt, [&] {
            return [&](int64_t group, Poll&) {
                for (const int64_t i : of_latents[size_t(group)])
                    add(grad_vectors + indices[i] * dim, T(1), shares.data() + (i - base) * dim,
                        dim);
            };
        });
    }
}

#define SYNTHKERN_INSTANTIATE(T)                                                           \
    template Choices<T> pursue(const Pursuit<T>&, T*, int, const Interrupt&);              \
    template void pursue_grad(const Pursuit<T>&, const int64_t*, const int32_t*, const T*, \
                              const T*, T*, T*, int, const Interrupt&);
SYNTHKERN_INSTANTIATE(float)
SYNTHKERN_INSTANTIATE(double)
#undef SYNTHKERN_INSTANTIATE

}  // namespace synthkern
