// The words of the stream. Its definition is the docstring of synthkern/stream/__init__.py.
#pragma once

#include <cstdint>

#include "philox.hpp"

namespace synthkern {

// A row of loadings is added up in this many partial sums, and padded to whole ones.
constexpr int kLanes = 8;

enum Purpose : uint32_t {
    kFactor = 0,
    kCoarse = 1,
    kFeature = 2,
    kSchedule = 3,
    kPhase = 4,
    kMagnitude = 5,
    kHiddenNoise = 6,
    kHiddenNoiseFactor = 7,
    kExclusion = 16
};

// Elements of kSchedule: features, two to an element, and factors from here on.
constexpr uint32_t kFactorSchedule = uint32_t{1} << 31;

static inline Key key_of(uint64_t seed) { return {uint32_t(seed), uint32_t(seed >> 32)}; }

static inline Words stream_block(uint32_t purpose, uint32_t element, uint64_t index, Key key) {
    return philox4x32({{element, purpose, uint32_t(index), uint32_t(index >> 32)}}, key);
}

// The priority of a feature in an exclusive group of forest number `ordinal`.
static inline uint64_t exclusion_priority(uint32_t ordinal, uint32_t feature, uint64_t index,
                                          Key key) {
    const Words words = stream_block(kExclusion + ordinal, feature, index, key);
    return uint64_t{words.w[0]} << 32 | words.w[1];
}

// Cubics of the transform from 32 bits to a normal: [segment][power], bit patterns of float32.
constexpr int kNormalSegments = 513;
extern const uint32_t kNormalTable[kNormalSegments][4];

// Likewise, of the transform from a normal to an exponential variable.
constexpr int kExponentialSegments = 288;
extern const uint32_t kExponentialTable[kExponentialSegments][4];

// Of exp(r) = 1 + r + r^2 * (a polynomial), constant first, for |r| <= log(2) / 2; and log(2) in
// two parts, the first of few bits.
constexpr float kExp[5] = {0x1.fffffcp-2f, 0x1.555490p-3f, 0x1.5558f4p-5f, 0x1.123a6cp-7f,
                           0x1.6a2352p-10f};
constexpr float kLog2E = 0x1.715476p+0f, kLn2High = 0x1.63p-1f, kLn2Low = -0x1.bd0106p-13f;

}  // namespace synthkern
