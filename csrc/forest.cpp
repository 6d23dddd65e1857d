#include "forest.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace synthkern {

template <class T>
void Walker<T>::apply(const int32_t* feature, T* value, int64_t count, Key key, uint64_t index,
                      uint32_t ordinal) {
    const Forest& forest = *forest_;
    present_.clear();
    for (int64_t i = 0; i < count; ++i) {
        const int32_t node = forest.node_of[feature[i]];
        if (node >= 0) present_.emplace_back(node, i);
    }
    std::sort(present_.begin(), present_.end());
    const ExclusiveGroup contest(ordinal, index, key);
    // Nodes ascend from the top down, and the members of a group are neighbours.
    for (size_t first = 0, last; first < present_.size(); first = last) {
        const int32_t group = forest.node[present_[first].first].group();
        last = first + 1;
        if (group >= 0)
            while (last < present_.size() && forest.node[present_[last].first].group() == group)
                ++last;
        contestants_.clear();
        for (size_t p = first; p < last; ++p) {
            const auto [node, place] = present_[p];
            const int32_t parent = forest.parent[node];
            T& v = value[place];
            if (parent >= 0 && !(state_[size_t(parent)] > 0))
                v = 0;
            else if (forest.node[node].scaled() && v != 0)
                v = v * (state_[size_t(parent)] / T(mean_[forest.node[parent].feature]));
            if (group >= 0 && v > 0) contestants_.push_back(p);
        }
        contest.select(
            contestants_, [&](size_t p) { return feature[present_[p].second]; },
            [&](size_t p) { value[present_[p].second] = 0; });
        for (size_t p = first; p < last; ++p) {
            const T v = value[present_[p].second];
            state_[size_t(present_[p].first)] = v > 0 ? v : T(0);
        }
    }
    for (const auto& entry : present_) state_[size_t(entry.first)] = 0;
}

namespace {

struct Run {
    int64_t begin, end;
    bool in_forest;
};

std::vector<Run> runs_of(const Forest& forest, int64_t num_features) {
    std::vector<Run> runs;
    for (int64_t j = 0; j < num_features; ++j) {
        const bool in_forest = j < forest.num_features && forest.node_of[j] >= 0;
        if (runs.empty() || runs.back().in_forest != in_forest) runs.push_back({j, j, in_forest});
        runs.back().end = j + 1;
    }
    return runs;
}

// In integers, which the compiler turns into vector instructions: a whole row is looked at.
template <class T>
bool all_finite(const T* row, int64_t size) {
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    const Bits exponent = sizeof(T) == 4 ? Bits(0x7F800000u) : Bits(0x7FF0000000000000u);
    const Bits carry = sizeof(T) == 4 ? Bits(0x00800000u) : Bits(0x0010000000000000u);
    Bits seen = 0;
    for (int64_t j = 0; j < size; ++j) {
        Bits bits;
        std::memcpy(&bits, row + j, sizeof(T));
        // An exponent of all ones carries into the sign bit, and no other does.
        seen |= (bits & exponent) + carry;
    }
    return (seen >> (8 * sizeof(T) - 1)) == 0;
}

template <class T>
class DenseWalker {
  public:
    DenseWalker(const Forest& forest, const std::vector<Run>& runs, const float* mean)
        : forest_(forest), runs_(runs), mean_(mean) {}

    void apply(const T* in, T* out, const ExclusiveGroup& contest) {
        for (const Run& run : runs_) {
            const size_t bytes = size_t(run.end - run.begin) * sizeof(T);
            if (run.in_forest)
                std::memset(out + run.begin, 0, bytes);
            else
                std::memcpy(out + run.begin, in + run.begin, bytes);
        }
        active_.clear();
        descend(in, out, 0, int32_t(forest_.num_roots), nullptr, contest);
        for (size_t next = 0; next < active_.size(); ++next) {
            const Node& parent = forest_.node[active_[next]];
            descend(in, out, parent.child_begin, parent.child_end(), &parent, contest);
        }
    }

  private:
    void descend(const T* in, T* out, int32_t begin, int32_t end, const Node* parent,
                 const ExclusiveGroup& contest) {
        T scale = 1;
        if (parent != nullptr && mean_ != nullptr)
            scale = out[parent->feature] / T(mean_[parent->feature]);
        for (int32_t first = begin, last; first < end; first = last) {
            const int32_t group = forest_.node[first].group();
            last = first + 1;
            if (group >= 0)
                while (last < end && forest_.node[last].group() == group) ++last;
            const size_t from = active_.size();
            for (int32_t node = first; node < last; ++node) {
                const int32_t feature = forest_.node[node].feature;
                // Zero stays zero however small the mean that it is divided by.
                const bool grows = forest_.node[node].scaled() && in[feature] != 0;
                const T value = grows ? in[feature] * scale : in[feature];
                out[feature] = value;
                if (value > 0) active_.push_back(node);
            }
            if (group < 0 || active_.size() - from < 2) continue;
            contestants_.assign(active_.begin() + int64_t(from), active_.end());
            contest.select(
                contestants_, [&](int32_t node) { return forest_.node[node].feature; },
                [&](int32_t node) { out[forest_.node[node].feature] = 0; });
            active_.erase(std::remove_if(
                              active_.begin() + int64_t(from), active_.end(),
                              [&](int32_t node) { return !(out[forest_.node[node].feature] > 0); }),
                          active_.end());
        }
    }

    const Forest& forest_;
    const std::vector<Run>& runs_;
    const float* mean_;
    std::vector<int32_t> active_, contestants_;
};

template <class T>
[[noreturn]] void refuse(const T* row, int64_t size, int64_t b) {
    const int64_t j = std::find_if(row, row + size, [](T x) { return !std::isfinite(x); }) - row;
    throw std::invalid_argument("activations must be finite, got " + std::to_string(row[j]) +
                                " at [" + std::to_string(b) + ", " + std::to_string(j) + "]");
}

}  // namespace

template <class T>
void apply_dense(const Forest& forest, const T* in, T* out, int64_t batch, int64_t num_features,
                 const float* mean, uint64_t seed, uint64_t start, uint32_t ordinal, int threads,
                 const Interrupt& interrupt) {
    constexpr int64_t rows = 8;
    const std::vector<Run> runs = runs_of(forest, num_features);
    parallel((batch + rows - 1) / rows, threads, interrupt, [&] {
        return [&, walker = DenseWalker<T>(forest, runs, mean)](int64_t chunk, Poll& poll) mutable {
            const int64_t end = std::min(batch, (chunk + 1) * rows);
            for (int64_t b = chunk * rows; b < end && !poll.stopped(); ++b) {
                const T* row = in + b * num_features;
                if (!all_finite(row, num_features)) refuse(row, num_features, b);
                walker.apply(row, out + b * num_features,
                             ExclusiveGroup(ordinal, start + uint64_t(b), key_of(seed)));
            }
        };
    });
}

template <class T>
void apply_sparse(const Forest& forest, const int64_t* offsets, const int32_t* indices, T* values,
                  int64_t batch, const float* mean, uint64_t seed, uint64_t start, uint32_t ordinal,
                  int threads, const Interrupt& interrupt) {
    constexpr int64_t rows = 64;
    parallel((batch + rows - 1) / rows, threads, interrupt, [&] {
        return [&, walker = Walker<T>(forest, mean)](int64_t chunk, Poll& poll) mutable {
            const int64_t end = std::min(batch, (chunk + 1) * rows);
            for (int64_t b = chunk * rows; b < end && !poll.stopped(); ++b)
                walker.apply(indices + offsets[b], values + offsets[b], offsets[b + 1] - offsets[b],
                             key_of(seed), start + uint64_t(b), ordinal);
        };
    });
}

template class Walker<float>;
template class Walker<double>;
template void apply_dense(const Forest&, const float*, float*, int64_t, int64_t, const float*,
                          uint64_t, uint64_t, uint32_t, int, const Interrupt&);
template void apply_dense(const Forest&, const double*, double*, int64_t, int64_t, const float*,
                          uint64_t, uint64_t, uint32_t, int, const Interrupt&);
template void apply_sparse(const Forest&, const int64_t*, const int32_t*, float*, int64_t,
                           const float*, uint64_t, uint64_t, uint32_t, int, const Interrupt&);
template void apply_sparse(const Forest&, const int64_t*, const int32_t*, double*, int64_t,
                           const float*, uint64_t, uint64_t, uint32_t, int, const Interrupt&);

}  // namespace synthkern
