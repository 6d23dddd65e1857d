// Products of rows by way of small integers, and how far these can be from the truth: part of
// kernels.cpp. A row is step * codes + rest, so that of rows a and b
//     |a . b - step_a step_b (codes_a . codes_b)| <= |rest_a| |b| + |a - rest_a| |rest_b|
// by Cauchy and Schwarz. Of 1,024 x 768 x 4,096 on two cores of an AMD Zen 4 the integers take 8 ms
// (bytes) or 15 ms (words of 16 bits), floats 30 ms.

#if defined(__AVX2__)
typedef int32_t Codes __attribute__((vector_size(sizeof(Wide))));
// Sums and two vectors of latents fill the registers: 24 of 32, or 12 of 16.
constexpr int kTileRows = kWide < 16 ? 6 : 12;
constexpr int kTileLatents = 2 * kWide;

#if defined(__AVX512VNNI__)
constexpr int kCodes = 4;         // to a word
constexpr int32_t kOffset = 128;  // of a latent's, which the instruction wants above 0
constexpr int64_t kMostLevels = 127;
typedef int8_t Narrow __attribute__((vector_size(16)));
static inline Codes add_products(Codes sum, Codes latents, int32_t input) {
    return (Codes)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)latents, _mm512_set1_epi32(input));
}
#else
constexpr int kCodes = 2;
constexpr int32_t kOffset = 0;
constexpr int64_t kMostLevels = 32767;
typedef int16_t Narrow __attribute__((vector_size(sizeof(Codes) / 2)));
static inline Codes add_products(Codes sum, Codes latents, int32_t input) {
#if defined(__AVX512BW__)
    return sum + (Codes)_mm512_madd_epi16((__m512i)latents, _mm512_set1_epi32(input));
#else
    return sum + (Codes)_mm256_madd_epi16((__m256i)latents, _mm256_set1_epi32(input));
#endif
}
#endif

static inline float sum_of(Wide v) {
    float sum = 0;
    for (int lane = 0; lane < kWide; ++lane) sum += v[lane];
    return sum;
}

static inline Wide larger(Wide a, Wide b) {
    return (Wide)(((Codes)a & (a > b)) | ((Codes)b & ~(a > b)));
}

static inline Wide magnitude(Wide a) { return (Wide)((Codes)a & 0x7FFFFFFF); }

static int64_t code_words(int64_t dim) { return (dim + kCodes - 1) / kCodes; }

// A row [dim] as codes, `stride` words from one to the next; the last word is filled with zeros.
static CodedRow code_row(const float* row, int64_t dim, int64_t levels, int32_t offset,
                         int32_t* words, int64_t stride) {
    // Added to a number below 2**22 and taken off again, it rounds to whole numbers.
    constexpr float kRound = 12582912.0f;
    const Wide round = spread(kRound);
    const int64_t whole = dim / kWide * kWide;
    Wide most = {};
    for (int64_t d = 0; d < whole; d += kWide) most = larger(magnitude(load<Wide>(row + d)), most);
    float largest = 0;
    for (int lane = 0; lane < kWide; ++lane) largest = most[lane] > largest ? most[lane] : largest;
    for (int64_t d = whole; d < dim; ++d) {
        const float x = row[d] < 0 ? -row[d] : row[d];
        largest = x > largest ? x : largest;
    }
    // Of what is so small that its rest would be subnormal all codes are 0, and all is rest.
    const bool tiny = !(largest > 1e-27f);
    const float per = tiny ? 0 : float(levels) / largest, step = tiny ? 0 : largest / float(levels);
    Wide squares = {}, rests = {};
    Codes sum = {};
    constexpr int kWords = kWide / kCodes;
    for (int64_t d = 0; d < dim; d += kWide) {
        Wide x = {};
        if (d < whole)
            x = load<Wide>(row + d);
        else
            for (int64_t j = d; j < dim; ++j) x[j - d] = row[j];
        const Wide rounded = fma(x, spread(per), round);
        const Codes codes = (Codes)rounded - (Codes)round;
        const Wide rest = fma(spread(-step), rounded - round, x);
        // In steps, as squares of small numbers would vanish and the bound with them.
        const Wide steps = x * spread(per), rest_steps = rest * spread(per);
        squares = fma(steps, steps, squares);
        rests = fma(rest_steps, rest_steps, rests);
        sum += codes;
        int32_t word[kWords];
        store(word, __builtin_convertvector(codes + offset, Narrow));
        const int64_t left = code_words(dim) - d / kCodes;
        for (int w = 0; w < (left < kWords ? left : kWords); ++w)
            words[(d / kCodes + w) * stride] = word[w];
    }
    int32_t total = 0;
    for (int lane = 0; lane < kWide; ++lane) total += sum[lane];
    // Rounding makes sums of squares smaller by at most this share.
    const float above = 1 + float(dim / kWide + 64) * 0x1p-23f;
    const float norm = __builtin_sqrtf(sum_of(squares)) * above;
    if (tiny) {
        // The first is 0, or NaN where one of the row is.
        const float most_norm = norm + __builtin_sqrtf(float(dim)) * largest * above;
        return {step, most_norm, most_norm, total * kOffset};
    }
    return {step, norm * step, __builtin_sqrtf(sum_of(rests)) * above * step, total * kOffset};
}

// Sums of products of codes, up to levels * (levels + kOffset) each, must fit into 32 bits.
static int64_t code_levels(int64_t dim) {
    const auto most = float(INT32_MAX / (dim + 1));
    const auto levels = int64_t(__builtin_sqrtf(most)) - kOffset;
    return levels < 0 ? 0 : levels < kMostLevels ? levels : kMostLevels;
}

static void code_latents(const float* rows, int64_t count, int64_t dim, int32_t* words,
                         CodedRow* coded) {
    for (int64_t m = 0; m < count; ++m)
        coded[m] =
            code_row(rows + m * dim, dim, code_levels(dim), kOffset, words + m, kTileLatents);
}

static void code_inputs(const float* rows, int64_t count, int64_t dim, int32_t* words,
                        CodedRow* coded) {
    const int64_t stride = code_words(dim);
    for (int64_t b = 0; b < count; ++b)
        coded[b] = code_row(rows + b * dim, dim, code_levels(dim), 0, words + b * stride, 1);
}

static void bound_keys(const int32_t* latents, const int32_t* inputs, int64_t words,
                       const LatentTerms& terms, const InputTerms* rows, bool magnitudes,
                       float* keys, int64_t stride) {
    Codes sum[kTileRows][2] = {};
    for (int64_t w = 0; w < words; ++w) {
        const Codes low = load<Codes>(latents + w * kTileLatents);
        const Codes high = load<Codes>(latents + w * kTileLatents + kWide);
#pragma GCC unroll 12
        for (int b = 0; b < kTileRows; ++b) {
            const int32_t input = inputs[b * words + w];
            sum[b][0] = add_products(sum[b][0], low, input);
            sum[b][1] = add_products(sum[b][1], high, input);
        }
    }
#pragma GCC unroll 12
    for (int b = 0; b < kTileRows; ++b) {
        const Wide step = spread(rows[b].step), rest = spread(rows[b].rest),
                   coded = spread(rows[b].coded);
        for (int c = 0; c < 2; ++c) {
            const Codes whole = sum[b][c] - rows[b].offset;
            const Wide product = __builtin_convertvector(whole, Wide) * step;
            const int64_t at = c * kWide;
            Wide off = fma(coded, load<Wide>(terms.rest + at), load<Wide>(terms.slack + at));
            off = fma(rest, load<Wide>(terms.norm + at), off);
            const Wide key =
                fma(product, load<Wide>(terms.step + at), load<Wide>(terms.shift + at));
            store(keys + b * stride + at, (magnitudes ? magnitude(key) : key) + off);
        }
    }
}

static const Coder kTheCoder = {kTileRows,    kTileLatents, code_levels, code_words,
                                code_latents, code_inputs,  bound_keys};
constexpr const Coder* kCoder = &kTheCoder;
#else
constexpr const Coder* kCoder = nullptr;
#endif
