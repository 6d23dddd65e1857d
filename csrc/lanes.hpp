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

constexpr int kLanes = 8;

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

// Eight blocks of the stream of one sample.
static inline Words8 stream_blocks(uint32_t purpose, U32x8 element, uint64_t index, Key key) {
    U32x8 c0 = element, c1 = splat(purpose), c2 = splat(uint32_t(index)),
          c3 = splat(uint32_t(index >> 32));
#pragma GCC unroll 10
    for (int round = 0; round < kPhiloxRounds; ++round) {
        U32x8 high0, low0, high1, low1;
        multiply(c0, kPhiloxMultiplier0, &high0, &low0);
        multiply(c2, kPhiloxMultiplier1, &high1, &low1);
        c0 = high1 ^ c1 ^ splat(key.low);
        c2 = high0 ^ c3 ^ splat(key.high);
        c1 = low1;
        c3 = low0;
        key.low += kPhiloxWeyl0;
        key.high += kPhiloxWeyl1;
    }
    return {{c0, c1, c2, c3}};
}

// Eight standard normals of eight words.
static inline F32x8 normals(U32x8 word) {
    const U32x8 negative = (U32x8)(word < splat(0x80000000u));
    const U32x8 distance = word ^ ~negative;
    const F32x8 place = __builtin_convertvector((I32x8)distance, F32x8) + splat(0.5f);
    const U32x8 bits = (U32x8)place;
    const U32x8 segment = (bits - splat(0x3F000000u)) >> 19;
    const F32x8 z = (F32x8)((bits & splat(0x7FFFFu)) | splat(0x3F800000u)) - splat(1.0f);
    uint32_t rows[4][kLanes];
    for (int lane = 0; lane < kLanes; ++lane)
        for (int power = 0; power < 4; ++power)
            rows[power][lane] = kNormalTable[segment[lane]][power];
    F32x8 x = load<F32x8>(rows[3]);
    for (int power = 2; power >= 0; --power) x = x * z + load<F32x8>(rows[power]);
    return (F32x8)((U32x8)x ^ (negative & splat(0x80000000u)));
}

}  // namespace synthkern
