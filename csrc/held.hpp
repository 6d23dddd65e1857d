// The sample whose words a feature has along sequences, looked up by itself. The definition is the
// docstring of synthkern/stream/__init__.py.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

#include "plan.hpp"
#include "stream.hpp"

namespace synthkern {

static inline uint64_t span_of(const Sequences& sequence, const HoldingLaw& law, uint32_t word) {
    const uint32_t* first = sequence.threshold + law.begin;
    // They descend; those that are at least the word come first.
    const uint32_t* end = std::upper_bound(first, first + law.size, word, std::greater<uint32_t>());
    return uint64_t(law.least) + uint64_t(end - first);
}

static inline uint64_t held_index(const Sequences& sequence, int32_t feature, uint64_t index,
                                  Key key) {
    if (sequence.length == 0) return index;
    const uint64_t t = index % sequence.length;
    const Words words =
        stream_block(kSchedule, uint32_t(feature) / 2, index / sequence.length, key);
    const uint32_t* own = words.w + 2 * (feature % 2);
    const HoldingLaw& law = sequence.law[sequence.law_of[feature]];
    const uint64_t age = span_of(sequence, law, own[0]), residual = span_of(sequence, law, own[1]);
    return index - std::min(t, (t + age) % (age + residual + 1));
}

}  // namespace synthkern
