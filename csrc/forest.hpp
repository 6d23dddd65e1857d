// Applying a forest to given activations.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "parallel.hpp"
#include "plan.hpp"
#include "stream.hpp"

namespace synthkern {

// Keeps of an exclusive group's members, given one after the other, the greatest priority; ties
// go to the first.
class ExclusiveGroup {
  public:
    ExclusiveGroup(uint32_t ordinal, uint64_t index, Key key)
        : ordinal_(ordinal), index_(index), key_(key) {}

    // Calls suppress(member) for every member but the winner. A single member needs no draw.
    template <class Member, class Feature, class Suppress>
    void select(const std::vector<Member>& members, Feature feature_of, Suppress suppress) const {
        if (members.size() < 2) return;
        size_t best = 0;
        uint64_t greatest = 0;
        for (size_t i = 0; i < members.size(); ++i) {
            const uint64_t priority =
                exclusion_priority(ordinal_, uint32_t(feature_of(members[i])), index_, key_);
            if (i == 0 || priority > greatest) {
                best = i;
                greatest = priority;
            }
        }
        for (size_t i = 0; i < members.size(); ++i)
            if (i != best) suppress(members[i]);
    }

  private:
    const uint32_t ordinal_;
    const uint64_t index_;
    const Key key_;
};

// Applies a forest to samples in sparse form; one per thread.
template <class T>
class Walker {
  public:
    // mean: [num_features] mean magnitudes; null where nothing is scaled.
    Walker(const Forest& forest, const float* mean)
        : forest_(&forest), mean_(mean), state_(size_t(forest.num_nodes), T(0)) {}

    // feature, value: [count] one sample, features ascending; values change in place.
    void apply(const int32_t* feature, T* value, int64_t count, Key key, uint64_t index,
               uint32_t ordinal);

  private:
    const Forest* forest_;
    const float* mean_;
    std::vector<T> state_;  // [K] value of an active node, 0 otherwise; 0 between samples
    std::vector<std::pair<int32_t, int64_t>> present_;  // node, place
    std::vector<size_t> contestants_;
};

// in, out: [batch, num_features], not overlapping; mean: [num_features] or null. Throws
// std::invalid_argument where an activation is not finite.
template <class T>
void apply_dense(const Forest& forest, const T* in, T* out, int64_t batch, int64_t num_features,
                 const float* mean, uint64_t seed, uint64_t start, uint32_t ordinal, int threads,
                 const Interrupt& interrupt);

// offsets: [batch + 1]; indices, values: [nnz]; values change in place.
template <class T>
void apply_sparse(const Forest& forest, const int64_t* offsets, const int32_t* indices, T* values,
                  int64_t batch, const float* mean, uint64_t seed, uint64_t start, uint32_t ordinal,
                  int threads, const Interrupt& interrupt);

}  // namespace synthkern
