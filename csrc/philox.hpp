// Philox4x32-10, one counter at a time. Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011. Vectors of counters: lanes.hpp.
#pragma once

#include <cstdint>

namespace synthkern {

constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53u, kPhiloxMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u, kPhiloxWeyl1 = 0xBB67AE85u;
constexpr int kPhiloxRounds = 10;

struct Key {
    uint32_t low, high;
};

struct Words {
    uint32_t w[4];
};

static inline Words philox4x32(Words counter, Key key) {
    uint32_t* c = counter.w;
    for (int round = 0; round < kPhiloxRounds; ++round) {
        const uint64_t p0 = uint64_t{kPhiloxMultiplier0} * c[0];
        const uint64_t p1 = uint64_t{kPhiloxMultiplier1} * c[2];
        c[0] = uint32_t(p1 >> 32) ^ c[1] ^ key.low;
        c[2] = uint32_t(p0 >> 32) ^ c[3] ^ key.high;
        c[1] = uint32_t(p1);
        c[3] = uint32_t(p0);
        key.low += kPhiloxWeyl0;
        key.high += kPhiloxWeyl1;
    }
    return counter;
}

}  // namespace synthkern
