// Lanes of 32 bits, sixteen with AVX-512 and eight otherwise, in GCC's vector extensions, so that
// one source serves every instruction set; intrinsics only where the compiler does not find the
// instruction by itself. Everything has internal linkage: the same header is compiled with
// different flags, and the variants must never be merged by the linker.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
// GCC 12 takes what its own AVX-512 header leaves undefined for a mistake (its bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include "stream.hpp"

namespace synthkern {
namespace SYNTHKERN_ISA {

#if defined(__AVX512F__) && defined(__AVX512BW__)
#define SYNTHKERN_AVX512
#endif

#if defined(SYNTHKERN_AVX512)
constexpr int kVector = 16;
#else
constexpr int kVector = 8;
#endif

typedef uint32_t U32 __attribute__((vector_size(4 * kVector)));
typedef int32_t I32 __attribute__((vector_size(4 * kVector)));
typedef uint64_t U64 __attribute__((vector_size(4 * kVector)));
typedef float F32 __attribute__((vector_size(4 * kVector)));
typedef float F32x8 __attribute__((vector_size(32)));

#if defined(SYNTHKERN_AVX512)
constexpr U32 kNumbers = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#else
constexpr U32 kNumbers = {0, 1, 2, 3, 4, 5, 6, 7};
#endif

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

static inline U32 splat(uint32_t x) { return x + U32{}; }
static inline F32 splat(float x) { return x - F32{}; }
static inline U64 wide(uint32_t x) { return x + U64{}; }

// One bit per lane of a comparison's result.
static inline uint32_t bits_of(I32 condition) {
#if defined(SYNTHKERN_AVX512)
    return _mm512_movepi32_mask((__m512i)condition);
#elif defined(__AVX2__)
    return uint32_t(_mm256_movemask_ps((__m256)condition));
#else
    uint32_t bits = 0;
    for (int lane = 0; lane < kVector; ++lane) bits |= uint32_t(condition[lane] != 0) << lane;
    return bits;
#endif
}

// Bytes, one per lane.
static inline U32 widen(const uint8_t* bytes) {
#if defined(SYNTHKERN_AVX512)
    return (U32)_mm512_cvtepu8_epi32(load<__m128i>(bytes));
#elif defined(__AVX2__)
    return (U32)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
#else
    uint32_t lanes[kVector];
    for (int lane = 0; lane < kVector; ++lane) lanes[lane] = bytes[lane];
    return load<U32>(lanes);
#endif
}

#if defined(SYNTHKERN_AVX512)
typedef __m512i Int;
#define SYNTHKERN_MM(name) _mm512_##name
#elif defined(__AVX2__)
typedef __m256i Int;
#define SYNTHKERN_MM(name) _mm256_##name
#endif

// A row of four words of a table for each lane, transposed. table: [rows][4]; out: [4], by column.
static inline void load_rows(const uint32_t (*table)[4], U32 row, U32* out) {
    uint32_t rows[kVector];
    store(rows, row);
#if defined(__AVX2__)
    Int four[4];
    for (int k = 0; k < 4; ++k) {
        const __m256i low =
            _mm256_inserti128_si256(_mm256_castsi128_si256(load<__m128i>(table[rows[k]])),
                                    load<__m128i>(table[rows[k + 4]]), 1);
#if defined(SYNTHKERN_AVX512)
        const __m256i high =
            _mm256_inserti128_si256(_mm256_castsi128_si256(load<__m128i>(table[rows[k + 8]])),
                                    load<__m128i>(table[rows[k + 12]]), 1);
        four[k] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
#else
        four[k] = low;
#endif
    }
    const Int a = SYNTHKERN_MM(unpacklo_epi32)(four[0], four[1]);
    const Int b = SYNTHKERN_MM(unpackhi_epi32)(four[0], four[1]);
    const Int c = SYNTHKERN_MM(unpacklo_epi32)(four[2], four[3]);
    const Int d = SYNTHKERN_MM(unpackhi_epi32)(four[2], four[3]);
    out[0] = (U32)SYNTHKERN_MM(unpacklo_epi64)(a, c);
    out[1] = (U32)SYNTHKERN_MM(unpackhi_epi64)(a, c);
    out[2] = (U32)SYNTHKERN_MM(unpacklo_epi64)(b, d);
    out[3] = (U32)SYNTHKERN_MM(unpackhi_epi64)(b, d);
#else
    uint32_t lanes[kVector];
    for (int column = 0; column < 4; ++column) {
        for (int lane = 0; lane < kVector; ++lane) lanes[lane] = table[rows[lane]][column];
        out[column] = load<U32>(lanes);
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

// The four words of a block of the stream for each lane.
struct Blocks {
    U32 w[4];
};

// The low halves times a number of 32 bits.
static inline U64 multiply(U64 a, uint32_t multiplier) {
#if defined(__AVX2__)
    return (U64)SYNTHKERN_MM(mul_epu32)((Int)a, SYNTHKERN_MM(set1_epi32)(int(multiplier)));
#else
    return (a & 0xFFFFFFFFu) * uint64_t{multiplier};
#endif
}

// Blocks of the stream: n vectors of elements, each of one sample. A round waits for the one before
// it, so several vectors at a time take little longer than one. Numbers are held in the low halves
// of 64 bits, those of even and of odd lanes apart, and the high halves may hold anything: what a
// product leaves needs no sorting then. Of the first two rounds half of the products are numbers of
// the sample alone.
template <int n>
static inline void draw(uint32_t purpose, const U32* element, const uint64_t* index, Key key,
                        Blocks* blocks) {
    U64 c[2 * n][4];
    const Key second{key.low + kPhiloxWeyl0, key.high + kPhiloxWeyl1};
#pragma GCC unroll 8
    for (int k = 0; k < 2 * n; ++k) {
        const uint32_t low = uint32_t(index[k / 2]), high = uint32_t(index[k / 2] >> 32);
        const uint64_t p = uint64_t{kPhiloxMultiplier1} * low;
        const uint64_t q = uint64_t{kPhiloxMultiplier0} * (uint32_t(p >> 32) ^ purpose ^ key.low);
        const U64 from = (U64)element[k / 2] >> (k % 2 * 32);
        const U64 first = multiply(from, kPhiloxMultiplier0);
        const U64 next = multiply((first >> 32) ^ wide(high ^ key.high), kPhiloxMultiplier1);
        c[k][0] = (next >> 32) ^ wide(uint32_t(p) ^ second.low);
        c[k][1] = next;
        c[k][2] = first ^ wide(uint32_t(q >> 32) ^ second.high);
        c[k][3] = wide(uint32_t(q));
    }
    key = second;
#pragma GCC unroll 8
    for (int round = 2; round < kPhiloxRounds; ++round) {
        key.low += kPhiloxWeyl0;
        key.high += kPhiloxWeyl1;
#pragma GCC unroll 8
        for (int k = 0; k < 2 * n; ++k) {
            const U64 first = multiply(c[k][0], kPhiloxMultiplier0);
            const U64 next = multiply(c[k][2], kPhiloxMultiplier1);
            c[k][0] = (next >> 32) ^ c[k][1] ^ wide(key.low);
            c[k][2] = (first >> 32) ^ c[k][3] ^ wide(key.high);
            c[k][1] = next;
            c[k][3] = first;
        }
    }
#pragma GCC unroll 8
    for (int k = 0; k < n; ++k)
        for (int w = 0; w < 4; ++w)
            blocks[k].w[w] = (U32)((c[2 * k][w] & 0xFFFFFFFFu) | c[2 * k + 1][w] << 32);
}

// Standard normals of words.
static inline F32 normals(U32 word) {
    const U32 distance = word ^ (U32)((I32)word >> 31);
    const F32 place = __builtin_convertvector((I32)distance, F32) + splat(0.5f);
    const U32 bits = (U32)place;
    const U32 segment = (bits - splat(0x3F000000u)) >> 19;
    const F32 z = (F32)((bits & splat(0x7FFFFu)) | splat(0x3F800000u)) - splat(1.0f);
    U32 c[4];
    load_rows(kNormalTable, segment, c);
    const F32 x = (((F32)c[3] * z + (F32)c[2]) * z + (F32)c[1]) * z + (F32)c[0];
    return (F32)((U32)x ^ (~word & splat(0x80000000u)));
}

}  // namespace SYNTHKERN_ISA
}  // namespace synthkern
