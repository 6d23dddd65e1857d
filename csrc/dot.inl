// Products of a sample's gradient with rows of the dictionary: part of kernels.cpp.

constexpr int kPartial = 16;  // partial sums, whatever the width of the registers

template <int rows>
static inline void dot_rows(const int32_t* indices, const float* vectors, int64_t dim,
                            const float* from, float* out) {
    constexpr int kParts = kPartial / kWide;
    const float* row[rows];
    Wide sum[rows][kParts] = {};
#pragma GCC unroll 4
    for (int k = 0; k < rows; ++k) row[k] = vectors + indices[k] * dim;
    int64_t d = 0;
    for (; d + kPartial <= dim; d += kPartial) {
#pragma GCC unroll 4
        for (int c = 0; c < kParts; ++c) {
            const Wide x = load<Wide>(from + d + c * kWide);
#pragma GCC unroll 4
            for (int k = 0; k < rows; ++k)
                sum[k][c] = fma(x, load<Wide>(row[k] + d + c * kWide), sum[k][c]);
        }
    }
    for (int k = 0; k < rows; ++k) {
        float part[kPartial];
        for (int c = 0; c < kParts; ++c) store(part + c * kWide, sum[k][c]);
        for (int64_t j = d; j < dim; ++j) part[j - d] = fma(from[j], row[k][j], part[j - d]);
        for (int half = kPartial / 2; half > 0; half /= 2)
            for (int j = 0; j < half; ++j) part[j] += part[j + half];
        out[k] = part[0];
    }
}

static void dot_f32(const int32_t* indices, int64_t count, const float* vectors, int64_t dim,
                    const float* from, float* out) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) dot_rows<4>(indices + i, vectors, dim, from, out + i);
    for (; i < count; ++i) dot_rows<1>(indices + i, vectors, dim, from, out + i);
}
