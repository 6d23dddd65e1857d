// Eight lanes of 32 bits, in GCC's vector extensions, so that one source serves every instruction
// set; intrinsics only where the compiler does not find the instruction by itself. Everything has
// internal linkage: the same header is compiled with different flags, and the variants must never
// be merged by the linker.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "stream.hpp"

namespace synthkern {

typedef uint32_t U32x8 __attribute__((vector_size(32)));
typedef int32_t I32x8 __attribute__((vector_size(32)));
typedef uint64_t U64x8 __attribute__((vector_size(64)));
typedef float F32x8 __attribute__((vector_size(32)));

template <class V, class T>
static inline V load(const T* from) {
    V v;
    std::memcpy(&v, from, sizeof(V));
    return v;
}

template <class V, class T>
static inline void store(T* to, V v) {
    std::memcpy(to, &v, sizeof(V));
}

static inline U32x8 splat(uint32_t x) { return U32x8{x, x, x, x, x, x, x, x}; }
static inline F32x8 splat(float x) { return F32x8{x, x, x, x, x, x, x, x}; }

// One bit per lane of a comparison's result.
static inline uint32_t bits_of(I32x8 condition) {
#if defined(__AVX2__)
    return uint32_t(_mm256_movemask_ps((__m256)condition));
#else
    uint32_t bits = 0;
    for (int lane = 0; lane < kLanes; ++lane) bits |= uint32_t(condition[lane] != 0) << lane;
    return bits;
#endif
}

// Eight bytes, one per lane.
static inline U32x8 widen(const uint8_t* bytes) {
#if defined(__AVX2__)
    return (U32x8)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
#else
    uint32_t lanes[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = bytes[lane];
    return load<U32x8>(lanes);
#endif
}

// Eight rows of four words of a table, transposed. table: [rows][4]; out: [4], by column.
static inline void load_rows(const uint32_t (*table)[4], U32x8 row, U32x8* out) {
    uint32_t rows[kLanes];
    store(rows, row);
#if defined(__AVX2__)
    __m256i pair[4];
    for (int k = 0; k < 4; ++k)
        pair[k] = _mm256_inserti128_si256(_mm256_castsi128_si256(load<__m128i>(table[rows[k]])),
                                          load<__m128i>(table[rows[k + 4]]), 1);
    const __m256i a = _mm256_unpacklo_epi32(pair[0], pair[1]);
    const __m256i b = _mm256_unpackhi_epi32(pair[0], pair[1]);
    const __m256i c = _mm256_unpacklo_epi32(pair[2], pair[3]);
    const __m256i d = _mm256_unpackhi_epi32(pair[2], pair[3]);
    out[0] = (U32x8)_mm256_unpacklo_epi64(a, c);
    out[1] = (U32x8)_mm256_unpackhi_epi64(a, c);
    out[2] = (U32x8)_mm256_unpacklo_epi64(b, d);
    out[3] = (U32x8)_mm256_unpackhi_epi64(b, d);
#else
    uint32_t lanes[kLanes];
    for (int column = 0; column < 4; ++column) {
        for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = table[rows[lane]][column];
        out[column] = load<U32x8>(lanes);
    }
#endif
}

// The stream's sum of eight partial sums, of eight rows.
static inline F32x8 add_up(const F32x8* s) {
#if defined(__AVX2__)
    const auto halves = [&](int k) {
        const __m256 a = (__m256)s[k], b = (__m256)s[k + 4];
        return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20),
                             _mm256_permute2f128_ps(a, b, 0x31));
    };
    const auto quarters = [](__m256 a, __m256 b) {
        return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xEE));
    };
    const __m256 a = quarters(halves(0), halves(1)), b = quarters(halves(2), halves(3));
    return (F32x8)_mm256_add_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xDD));
#else
    float sum[kLanes];
    for (int k = 0; k < kLanes; ++k)
        sum[k] = ((s[k][0] + s[k][4]) + (s[k][2] + s[k][6])) +
                 ((s[k][1] + s[k][5]) + (s[k][3] + s[k][7]));
    return load<F32x8>(sum);
#endif
}

struct Words8 {
    U32x8 w[4];
};

static inline void multiply(U32x8 a, uint32_t multiplier, U32x8* high, U32x8* low) {
#if defined(__AVX2__)
    const __m256i x = (__m256i)a, m = _mm256_set1_epi32(int(multiplier));
    const __m256i even = _mm256_mul_epu32(x, m);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), m);
    *low = (U32x8)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
    *high = (U32x8)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
#else
    const U64x8 product = __builtin_convertvector(a, U64x8) * uint64_t{multiplier};
    *low = __builtin_convertvector(product, U32x8);
    *high = __builtin_convertvector(product >> 32, U32x8);
#endif
}

// The counters of eight blocks of the stream of one sample.
static inline Words8 counters(uint32_t purpose, U32x8 element, uint64_t index) {
    return {{element, splat(purpose), splat(uint32_t(index)), splat(uint32_t(index >> 32))}};
}

// Counters to words in place, n times eight of them. A round waits for the one before it, so two
// at a time take little longer than one.
template <int n>
static inline void philox(Words8* blocks, Key key) {
#pragma GCC unroll 10
    for (int round = 0; round < kPhiloxRounds; ++round) {
        const U32x8 low_key = splat(key.low), high_key = splat(key.high);
#pragma GCC unroll 2
        for (int k = 0; k < n; ++k) {
            U32x8* c = blocks[k].w;
            U32x8 high0, low0, high1, low1;
            multiply(c[0], kPhiloxMultiplier0, &high0, &low0);
            multiply(c[2], kPhiloxMultiplier1, &high1, &low1);
            c[0] = high1 ^ c[1] ^ low_key;
            c[2] = high0 ^ c[3] ^ high_key;
            c[1] = low1;
            c[3] = low0;
        }
        key.low += kPhiloxWeyl0;
        key.high += kPhiloxWeyl1;
    }
}

// Eight standard normals of eight words.
static inline F32x8 normals(U32x8 word) {
    const U32x8 negative = (U32x8)(word < splat(0x80000000u));
    const U32x8 distance = word ^ ~negative;
    const F32x8 place = __builtin_convertvector((I32x8)distance, F32x8) + splat(0.5f);
    const U32x8 bits = (U32x8)place;
    const U32x8 segment = (bits - splat(0x3F000000u)) >> 19;
    const F32x8 z = (F32x8)((bits & splat(0x7FFFFu)) | splat(0x3F800000u)) - splat(1.0f);
    U32x8 c[4];
    load_rows(kNormalTable, segment, c);
    const F32x8 x = (((F32x8)c[3] * z + (F32x8)c[2]) * z + (F32x8)c[1]) * z + (F32x8)c[0];
    return (F32x8)((U32x8)x ^ (negative & splat(0x80000000u)));
}

}  // namespace synthkern
