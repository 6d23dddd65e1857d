// Products of rows of two matrices: part of kernels.cpp.

constexpr int kPartial = 16;  // partial sums, whatever the width of the registers
// Products at once: each waits for its own sums alone.
constexpr int kPairs = kWide < kPartial ? 4 : 8;

template <int pairs>
static inline void dot_pairs(const int32_t* indices, const int32_t* rows, const float* vectors,
                             const float* inputs, int64_t dim, float* out) {
    constexpr int kParts = kPartial / kWide;
    const float *vector[pairs], *input[pairs];
    Wide sum[pairs][kParts] = {};
#pragma GCC unroll 8
    for (int k = 0; k < pairs; ++k) {
        vector[k] = vectors + indices[k] * dim;
        input[k] = rows != nullptr ? inputs + rows[k] * dim : inputs;
    }
    int64_t d = 0;
    for (; d + kPartial <= dim; d += kPartial) {
#pragma GCC unroll 4
        for (int c = 0; c < kParts; ++c) {
            const int64_t at = d + c * kWide;
#pragma GCC unroll 8
            for (int k = 0; k < pairs; ++k)
                sum[k][c] = fma(load<Wide>(input[k] + at), load<Wide>(vector[k] + at), sum[k][c]);
        }
    }
    for (int k = 0; k < pairs; ++k) {
        float part[kPartial];
        for (int c = 0; c < kParts; ++c) store(part + c * kWide, sum[k][c]);
        for (int64_t j = d; j < dim; ++j) part[j - d] = fma(input[k][j], vector[k][j], part[j - d]);
        for (int half = kPartial / 2; half > 0; half /= 2)
            for (int j = 0; j < half; ++j) part[j] += part[j + half];
        out[k] = part[0];
    }
}

static void dot_f32(const int32_t* indices, const int32_t* rows, int64_t count,
                    const float* vectors, const float* inputs, int64_t dim, float* out) {
    const auto from = [=](int64_t i) { return rows != nullptr ? rows + i : nullptr; };
    int64_t i = 0;
    for (; i + kPairs <= count; i += kPairs)
        dot_pairs<kPairs>(indices + i, from(i), vectors, inputs, dim, out + i);
    for (; i < count; ++i) dot_pairs<1>(indices + i, from(i), vectors, inputs, dim, out + i);
}
