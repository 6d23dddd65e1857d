// Hidden activations of one sample: part of kernels.cpp.

#if defined(__AVX512F__)
typedef float Wide __attribute__((vector_size(64)));
static inline Wide fma(Wide a, Wide b, Wide c) { return (Wide)_mm512_fmadd_ps(a, b, c); }
#elif defined(__AVX2__)
typedef float Wide __attribute__((vector_size(32)));
static inline Wide fma(Wide a, Wide b, Wide c) { return (Wide)_mm256_fmadd_ps(a, b, c); }
#elif defined(__aarch64__)
typedef float Wide __attribute__((vector_size(16)));
static inline Wide fma(Wide a, Wide b, Wide c) { return vfmaq_f32(c, a, b); }
#else
typedef float Wide __attribute__((vector_size(16)));
static inline Wide fma(Wide a, Wide b, Wide c) {
    for (int lane = 0; lane < 4; ++lane) c[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
    return c;
}
#endif
static inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }

static inline Wide spread(float x) { return x - Wide{}; }

constexpr int kWide = sizeof(Wide) / sizeof(float);
constexpr int kRows = 8;  // of the dictionary at a time: 8 values and 2 sums fill the registers

// hidden = fma(values[i], row i, ...) from `from`, i ascending; from: [dim], may be hidden. The
// rows of `next` will be read soon: asking for them here hides most of the way to the memory
// (3.2 us a sample of the standard workload where a pass per twelve columns took 3.9). They go to
// the second cache: in the first one, of 32 KB, two passes' rows have no room (on an AMD Zen 4 2.6
// us a sample, 3.6 with them in the first, 3.1 unasked).
template <int rows>
static inline void add_rows(const int32_t* indices, const float* values, const int32_t* next,
                            const float* vectors, int64_t dim, const float* from, float* hidden) {
    const float* row[rows];
    const float* ahead[kRows];
    Wide value[rows];
#pragma GCC unroll 8
    for (int k = 0; k < rows; ++k) {
        row[k] = vectors + indices[k] * dim;
        value[k] = spread(values[k]);
    }
    for (int k = 0; k < kRows; ++k) ahead[k] = vectors + next[k] * dim;
    constexpr int step = 64 / sizeof(float);  // a cache line
    int64_t d = 0;
    for (; d + step <= dim; d += step) {
        for (int k = 0; k < kRows; ++k) __builtin_prefetch(ahead[k] + d, 0, 2);
        Wide sum[step / kWide];
#pragma GCC unroll 4
        for (int c = 0; c < step / kWide; ++c) sum[c] = load<Wide>(from + d + c * kWide);
#pragma GCC unroll 8
        for (int k = 0; k < rows; ++k)
#pragma GCC unroll 4
            for (int c = 0; c < step / kWide; ++c)
                sum[c] = fma(value[k], load<Wide>(row[k] + d + c * kWide), sum[c]);
#pragma GCC unroll 4
        for (int c = 0; c < step / kWide; ++c) store(hidden + d + c * kWide, sum[c]);
    }
    for (; d < dim; ++d) {
        float sum = from[d];
        for (int k = 0; k < rows; ++k) sum = fma(values[k], row[k][d], sum);
        hidden[d] = sum;
    }
}

typedef void (*AddRows)(const int32_t*, const float*, const int32_t*, const float*, int64_t,
                        const float*, float*);

static const AddRows kAddRows[kRows + 1] = {add_rows<0>, add_rows<1>, add_rows<2>,
                                            add_rows<3>, add_rows<4>, add_rows<5>,
                                            add_rows<6>, add_rows<7>, add_rows<8>};

static void gather_f32(const int32_t* indices, const float* values, int64_t count,
                       const int32_t* next, int64_t next_count, const float* vectors, int64_t dim,
                       const float* bias, float* hidden) {
    const float* from = bias;
    // The odd rows first, so that some pass starts from the bias.
    int64_t done = 0, rows = count % kRows;
    if (rows == 0 && count > 0) rows = kRows;
    do {
        int32_t ahead[kRows] = {};
        for (int64_t k = 0, i = done + rows; k < kRows; ++k, ++i) {
            if (i < count)
                ahead[k] = indices[i];
            else if (i - count < next_count)
                ahead[k] = next[i - count];
        }
        kAddRows[rows](indices + done, values + done, ahead, vectors, dim, from, hidden);
        from = hidden;
        done += rows;
        rows = kRows;
    } while (done < count);
}

static void gather_f64(const int32_t* indices, const double* values, int64_t count,
                       const double* vectors, int64_t dim, const double* bias, double* hidden) {
    for (int64_t d = 0; d < dim; ++d) hidden[d] = bias[d];
    for (int64_t i = 0; i < count; ++i) {
        const double* row = vectors + indices[i] * dim;
        for (int64_t d = 0; d < dim; ++d) hidden[d] = fma(values[i], row[d], hidden[d]);
    }
}
