// The screen's arithmetic, two blocks of sixteen features at a time: part of kernels.cpp.

constexpr int kTwoBlocks = 2 * kBlock;

typedef uint16_t U16x16 __attribute__((vector_size(32)));
typedef int16_t I16x16 __attribute__((vector_size(32)));

static inline I16x16 splat16(int16_t x) { return I16x16{} + x; }

// For each coarse byte the largest normal that it leaves possible, in nibble units, rounded up:
// by the high nibble, and where that is 15 by the low one. Normals below zero count as zero, and
// byte 255 leaves everything possible.
alignas(16) static const int8_t kHighNibble[16] = {0, 0,  0,  0,  0,  0,  0,  0,
                                                   8, 15, 23, 32, 42, 55, 73, 0};
alignas(16) static const int8_t kLowNibble[16] = {74, 76, 77, 79,  81,  83,  86,  88,
                                                  91, 94, 97, 102, 107, 114, 126, 127};

#if defined(__AVX2__)

// One bit for each of 32 features whose greatest possible normal exceeds its threshold. first,
// second: what the factors add, rounded up, of sixteen features each; threshold, noise, bytes:
// [32].
static inline uint32_t may_fire(I16x16 first, I16x16 second, const int16_t* threshold,
                                const int16_t* noise, const uint8_t* bytes) {
    const __m256i byte = load<__m256i>(bytes), nibble = _mm256_set1_epi8(15);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(byte, 4), nibble);
    const __m256i low = _mm256_and_si256(byte, nibble);
    const __m256i high_bound = _mm256_broadcastsi128_si256(load<__m128i>(kHighNibble));
    const __m256i low_bound = _mm256_broadcastsi128_si256(load<__m128i>(kLowNibble));
    const __m256i bound =
        _mm256_blendv_epi8(_mm256_shuffle_epi8(high_bound, high),
                           _mm256_shuffle_epi8(low_bound, low), _mm256_cmpeq_epi8(high, nibble));
    const auto above = [&](I16x16 s, __m128i bound8, int at) {
        const __m256i eta =
            _mm256_mullo_epi16(_mm256_cvtepi8_epi16(bound8), load<__m256i>(noise + at));
        return _mm256_cmpgt_epi16(_mm256_adds_epi16((__m256i)s, eta),
                                  load<__m256i>(threshold + at));
    };
    const __m256i packed =
        _mm256_packs_epi16(above(first, _mm256_castsi256_si128(bound), 0),
                           above(second, _mm256_extracti128_si256(bound, 1), kBlock));
    const __m256i certain = _mm256_cmpeq_epi8(byte, _mm256_set1_epi8(-1));
    return uint32_t(
        _mm256_movemask_epi8(_mm256_or_si256(_mm256_permute4x64_epi64(packed, 0xD8), certain)));
}

// sum + both factors of a pair times their loadings, modulo 2**16.
static inline I16x16 add_pair(I16x16 sum, const uint8_t* loading, int32_t pair) {
    return (I16x16)_mm256_add_epi16(
        (__m256i)sum, _mm256_maddubs_epi16(load<__m256i>(loading), _mm256_set1_epi32(pair)));
}

// One bit for each of 32 bytes that is at most the given one.
static inline uint32_t at_most(const uint8_t* bytes, const uint8_t* last) {
    const __m256i byte = load<__m256i>(bytes);
    return uint32_t(
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(byte, load<__m256i>(last)), byte)));
}

// The sixteen bytes of eight coarse blocks: bytes[8][16] of words w[4][8].
static inline void transpose_bytes(const Words8& words, uint8_t* bytes) {
    const __m256i a = (__m256i)words.w[0], b = (__m256i)words.w[1], c = (__m256i)words.w[2],
                  d = (__m256i)words.w[3];
    const __m256i ab_low = _mm256_unpacklo_epi32(a, b), ab_high = _mm256_unpackhi_epi32(a, b);
    const __m256i cd_low = _mm256_unpacklo_epi32(c, d), cd_high = _mm256_unpackhi_epi32(c, d);
    const __m256i rows[4] = {
        _mm256_unpacklo_epi64(ab_low, cd_low), _mm256_unpackhi_epi64(ab_low, cd_low),
        _mm256_unpacklo_epi64(ab_high, cd_high), _mm256_unpackhi_epi64(ab_high, cd_high)};
    for (int k = 0; k < 4; k += 2) {
        store(bytes + 16 * k, _mm256_permute2x128_si256(rows[k], rows[k + 1], 0x20));
        store(bytes + 16 * (k + 4), _mm256_permute2x128_si256(rows[k], rows[k + 1], 0x31));
    }
}

#else

static inline int saturate(int x) { return x > 32767 ? 32767 : x < -32768 ? -32768 : x; }

static inline uint32_t may_fire(I16x16 first, I16x16 second, const int16_t* threshold,
                                const int16_t* noise, const uint8_t* bytes) {
    uint32_t mask = 0;
    for (int lane = 0; lane < kTwoBlocks; ++lane) {
        const int byte = bytes[lane];
        const int bound = byte < 240 ? kHighNibble[byte >> 4] : kLowNibble[byte & 15];
        const int s = lane < kBlock ? first[lane] : second[lane - kBlock];
        const int most = saturate(s + int16_t(bound * noise[lane]));
        mask |= uint32_t(most > threshold[lane] || byte == 255) << lane;
    }
    return mask;
}

static inline I16x16 add_pair(I16x16 sum, const uint8_t* loading, int32_t pair) {
    const U16x16 both = load<U16x16>(loading);
    const uint16_t first = uint16_t(int8_t(pair)), second = uint16_t(int8_t(pair >> 8));
    return (I16x16)((U16x16)sum + (both & 255) * first + (both >> 8) * second);
}

static inline uint32_t at_most(const uint8_t* bytes, const uint8_t* last) {
    uint32_t mask = 0;
    for (int lane = 0; lane < kTwoBlocks; ++lane)
        mask |= uint32_t(bytes[lane] <= last[lane]) << lane;
    return mask;
}

static inline void transpose_bytes(const Words8& words, uint8_t* bytes) {
    for (int lane = 0; lane < kLanes; ++lane)
        for (int k = 0; k < kBlock; ++k)
            bytes[kBlock * lane + k] = uint8_t(words.w[k / 4][lane] >> (8 * (k % 4)));
}

#endif

// A sample's factors, quantised for the screen.
struct Quantised {
    int32_t* pair;  // [pairs]: two signed bytes, twice, as a register broadcasts them
    int16_t start;  // what a sum starts from: the margin, and what undoes the loadings' offset
    bool screened;  // false where the bound is void and every feature must be looked at
};

// Bounds by Cauchy and Schwarz: with loading = q / a + dq and factor = e / b + de,
// |loading . factor - q . e / (a b)| <= |dq| |factor| + |q / a| |de|. The float32 rounding of the
// exact test is below (rank / 8 + 8) 2**-23 of the sizes that it adds up. factor: [rank].
static inline void quantise(const Plan& plan, const float* factor, Quantised& q) {
    const Screen& screen = plan.screen;
    float square = 0, error_square = 0, quantised_square = 0;
    int sum = 0;
    for (int pair = 0; pair < screen.pairs; ++pair) {
        int bytes[2] = {0, 0};
        for (int side = 0; side < 2 && 2 * pair + side < plan.rank; ++side) {
            const float x = factor[2 * pair + side], units = x * screen.factor_units;
            int e = int(units + (units < 0 ? -0.5f : 0.5f));
            e = e > 127 ? 127 : e < -127 ? -127 : e;
            const float error = x - float(e) / screen.factor_units;
            square += x * x;
            error_square += error * error;
            quantised_square += float(e * e);
            bytes[side] = e;
            sum += e;
        }
        const uint32_t both = uint32_t(bytes[0] & 255) | uint32_t(bytes[1] & 255) << 8;
        q.pair[pair] = int32_t(both | both << 16);
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
    q.screened = margin + largest < 32000;
    q.start = int16_t(uint16_t((q.screened ? int(margin) : 0) - 64 * sum));
}
