// The screen's arithmetic, two blocks of sixteen features at a time: part of kernels.cpp.

constexpr int kTwoBlocks = 2 * kBlock;

// For each coarse byte the largest normal that it leaves possible, in nibble units, rounded up:
// by the high nibble, and where that is 15 by the low one. Normals below zero count as zero, and
// byte 255 leaves everything possible.
alignas(16) static const int8_t kHighNibble[16] = {0, 0,  0,  0,  0,  0,  0,  0,
                                                   8, 15, 23, 32, 42, 55, 73, 0};
alignas(16) static const int8_t kLowNibble[16] = {74, 76, 77, 79,  81,  83,  86,  88,
                                                  91, 94, 97, 102, 107, 114, 126, 127};

// Coarse blocks in the order in which transpose_bytes leaves their bytes.
static inline U32 order_blocks(U32 block) {
#if defined(SYNTHKERN_AVX512)
    return (U32)_mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), (__m512i)block);
#elif defined(__AVX2__)
    return (U32)_mm256_permutevar8x32_epi32((__m256i)block,
                                            _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
#else
    return block;
#endif
}

#if defined(__AVX2__)

// The sixteen bytes of each coarse block, of words of blocks in the order above:
// bytes[kVector][16].
static inline void transpose_bytes(const Blocks& words, uint8_t* bytes) {
    const auto a = (Int)words.w[0], b = (Int)words.w[1], c = (Int)words.w[2], d = (Int)words.w[3];
    const Int ab_low = SYNTHKERN_MM(unpacklo_epi32)(a, b);
    const Int ab_high = SYNTHKERN_MM(unpackhi_epi32)(a, b);
    const Int cd_low = SYNTHKERN_MM(unpacklo_epi32)(c, d);
    const Int cd_high = SYNTHKERN_MM(unpackhi_epi32)(c, d);
    store(bytes, SYNTHKERN_MM(unpacklo_epi64)(ab_low, cd_low));
    store(bytes + sizeof(Int), SYNTHKERN_MM(unpackhi_epi64)(ab_low, cd_low));
    store(bytes + 2 * sizeof(Int), SYNTHKERN_MM(unpacklo_epi64)(ab_high, cd_high));
    store(bytes + 3 * sizeof(Int), SYNTHKERN_MM(unpackhi_epi64)(ab_high, cd_high));
}

// For each of 32 bytes the largest normal that it leaves possible.
static inline __m256i bound_normals(__m256i byte) {
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(byte, 4), nibble);
    const __m256i low = _mm256_and_si256(byte, nibble);
    const __m256i high_bound = _mm256_broadcastsi128_si256(load<__m128i>(kHighNibble));
    const __m256i low_bound = _mm256_broadcastsi128_si256(load<__m128i>(kLowNibble));
    return _mm256_blendv_epi8(_mm256_shuffle_epi8(high_bound, high),
                              _mm256_shuffle_epi8(low_bound, low), _mm256_cmpeq_epi8(high, nibble));
}

// One bit for each of 32 bytes that is at most the given one.
static inline uint32_t at_most(const uint8_t* bytes, const uint8_t* last) {
    const __m256i byte = load<__m256i>(bytes);
    return uint32_t(
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(byte, load<__m256i>(last)), byte)));
}

#endif

#if defined(SYNTHKERN_AVX512)

// What the factors add of sixteen features.
typedef __m512i Sums;

static inline Sums start_from(int32_t start) { return _mm512_set1_epi32(start); }

// sum + four factors times their loadings. loading: [16, 4].
static inline Sums add_quad(Sums sum, const uint8_t* loading, int32_t quad) {
    const auto both = load<__m512i>(loading), four = _mm512_set1_epi32(quad);
#if defined(__AVX512VNNI__)
    return _mm512_dpbusd_epi32(sum, both, four);
#else
    return _mm512_add_epi32(
        sum, _mm512_madd_epi16(_mm512_maddubs_epi16(both, four), _mm512_set1_epi16(1)));
#endif
}

// One bit for each of 32 features whose greatest possible normal exceeds its threshold. first,
// second: what the factors add, rounded up, of sixteen features each; threshold, noise, bytes:
// [32].
static inline uint32_t may_fire(Sums first, Sums second, const int16_t* threshold,
                                const int16_t* noise, const uint8_t* bytes) {
    const __m256i byte = load<__m256i>(bytes);
    const __m512i eta =
        _mm512_mullo_epi16(_mm512_cvtepi8_epi16(bound_normals(byte)), load<__m512i>(noise));
    const __m512i sum = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 2, 6, 1, 5, 3, 7),
                                                 _mm512_packs_epi32(first, second));
    return _mm512_cmpgt_epi16_mask(_mm512_adds_epi16(sum, eta), load<__m512i>(threshold)) |
           _mm256_cmpeq_epi8_mask(byte, _mm256_set1_epi8(-1));
}

#elif defined(__AVX2__)

// Modulo 2**16, a sum in two halves.
struct Sums {
    __m256i half[2];
};

static inline Sums start_from(int32_t start) {
    const __m256i half = _mm256_set1_epi32(start & 0xFFFF);
    return {{half, half}};
}

static inline Sums add_quad(Sums sum, const uint8_t* loading, int32_t quad) {
    for (int h = 0; h < 2; ++h)
        sum.half[h] = _mm256_add_epi16(
            sum.half[h],
            _mm256_maddubs_epi16(load<__m256i>(loading + 32 * h), _mm256_set1_epi32(quad)));
    return sum;
}

static inline uint32_t may_fire(Sums first, Sums second, const int16_t* threshold,
                                const int16_t* noise, const uint8_t* bytes) {
    const __m256i byte = load<__m256i>(bytes), bound = bound_normals(byte);
    const auto above = [&](const Sums& sums, __m128i bound8, int at) {
        const __m256i eta =
            _mm256_mullo_epi16(_mm256_cvtepi8_epi16(bound8), load<__m256i>(noise + at));
        const __m256i sum = _mm256_hadd_epi16(sums.half[0], sums.half[1]);
        return _mm256_cmpgt_epi16(_mm256_adds_epi16(sum, eta), load<__m256i>(threshold + at));
    };
    const __m256i packed =
        _mm256_packs_epi16(above(first, _mm256_castsi256_si128(bound), 0),
                           above(second, _mm256_extracti128_si256(bound, 1), kBlock));
    const __m256i certain = _mm256_cmpeq_epi8(byte, _mm256_set1_epi8(-1));
    return uint32_t(
        _mm256_movemask_epi8(_mm256_or_si256(_mm256_permute4x64_epi64(packed, 0xD8), certain)));
}

#else

typedef uint16_t U16 __attribute__((vector_size(32)));
typedef int16_t I16 __attribute__((vector_size(32)));

// Modulo 2**16, a feature's sum in two neighbours.
struct Sums {
    U16 half[2];
};

static inline Sums start_from(int32_t start) {
    const U16 half = (U16)splat(uint32_t(start & 0xFFFF));
    return {{half, half}};
}

static inline Sums add_quad(Sums sum, const uint8_t* loading, int32_t quad) {
    const U16 four = (U16)splat(uint32_t(quad));
    const U16 first = (U16)((I16)(four << 8) >> 8), second = (U16)((I16)four >> 8);
    for (int h = 0; h < 2; ++h) {
        const U16 both = load<U16>(loading + 32 * h);
        sum.half[h] += (both & 255) * first + (both >> 8) * second;
    }
    return sum;
}

static inline int saturate(int x) { return x > 32767 ? 32767 : x < -32768 ? -32768 : x; }

static inline uint32_t may_fire(const Sums& first, const Sums& second, const int16_t* threshold,
                                const int16_t* noise, const uint8_t* bytes) {
    uint32_t mask = 0;
    for (int lane = 0; lane < kTwoBlocks; ++lane) {
        const int byte = bytes[lane], quarter = lane % kBlock / 4;
        const int bound = byte < 240 ? kHighNibble[byte >> 4] : kLowNibble[byte & 15];
        const U16 half = (lane < kBlock ? first : second).half[quarter % 2];
        const int at = quarter / 2 * 8 + lane % 4 * 2, sum = int16_t(half[at] + half[at + 1]);
        const int most = saturate(sum + int16_t(bound * noise[lane]));
        mask |= uint32_t(most > threshold[lane] || byte == 255) << lane;
    }
    return mask;
}

static inline uint32_t at_most(const uint8_t* bytes, const uint8_t* last) {
    uint32_t mask = 0;
    for (int lane = 0; lane < kTwoBlocks; ++lane)
        mask |= uint32_t(bytes[lane] <= last[lane]) << lane;
    return mask;
}

static inline void transpose_bytes(const Blocks& words, uint8_t* bytes) {
    for (int lane = 0; lane < kVector; ++lane)
        for (int k = 0; k < kBlock; ++k)
            bytes[kBlock * lane + k] = uint8_t(words.w[k / 4][lane] >> (8 * (k % 4)));
}

#endif

// The sixteen bytes of kVector coarse blocks, for n samples. bytes: [n, kVector, 16].
template <int n>
static inline void draw_blocks(const uint32_t* block, uint64_t index, Key key, uint8_t* bytes) {
    U32 element[n];
    uint64_t at[n];
    for (int k = 0; k < n; ++k) {
        element[k] = order_blocks(load<U32>(block));
        at[k] = index + uint64_t(k);
    }
    Blocks words[n];
    draw<n>(kCoarse, element, at, key, words);
    for (int k = 0; k < n; ++k) transpose_bytes(words[k], bytes + k * kVector * kBlock);
}

// A sample's factors, quantised for the screen.
struct Quantised {
    int32_t* quad;  // [quads]: four signed bytes
    int32_t start;  // what a sum starts from: the margin, and what undoes the loadings' offset
    uint32_t unscreened;  // all bits where the bound is void and every feature must be looked at
};

// Bounds by Cauchy and Schwarz: with loading = q / a + dq and factor = e / b + de,
// |loading . factor - q . e / (a b)| <= |dq| |factor| + |q / a| |de|. The float32 rounding of the
// exact test is below (rank / 8 + 8) 2**-23 of the sizes that it adds up. factor: [rank].
static inline void quantise(const Plan& plan, const float* factor, Quantised& q) {
    const Screen& screen = plan.screen;
    float square = 0, error_square = 0, quantised_square = 0;
    int sum = 0;
    for (int quad = 0; quad < screen.quads; ++quad) {
        uint32_t four = 0;
        for (int side = 0; side < 4 && 4 * quad + side < plan.rank; ++side) {
            const float x = factor[4 * quad + side], units = x * screen.factor_units;
            int e = int(units + (units < 0 ? -0.5f : 0.5f));
            e = e > 127 ? 127 : e < -127 ? -127 : e;
            const float error = x - float(e) / screen.factor_units;
            square += x * x;
            error_square += error * error;
            quantised_square += float(e * e);
            four |= uint32_t(e & 255) << (8 * side);
            sum += e;
        }
        q.quad[quad] = int32_t(four);
    }
    const float norm = __builtin_sqrtf(square), units = screen.loading_units * screen.factor_units;
    const float rounding =
        float(plan.padded_rank / 8 + 8) * 0x1p-23f * (screen.loading_norm * norm + screen.slack);
    const float margin = units * 1.001f *
                             (screen.loading_error * norm +
                              screen.loading_norm * __builtin_sqrtf(error_square) + rounding) +
                         2;
    const float largest =
        screen.loading_norm * screen.loading_units * __builtin_sqrtf(quantised_square);
    // Within 16 bits nothing wraps but what the offset adds and `start` takes away again.
    const bool screened = margin + largest < 32000;
    q.unscreened = screened ? 0 : ~uint32_t{0};
    q.start = (screened ? int(margin) : 0) - 64 * sum;
}
