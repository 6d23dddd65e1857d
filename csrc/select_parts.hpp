// What is common to the selections from dense pre-activations and to those by the encoder.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "select.hpp"

namespace synthkern {

template <class T>
T ordered(T key) {
    return key == key ? key : std::numeric_limits<T>::infinity();
}

// Some consecutive samples' share of the result.
template <class T>
struct Part {
    std::vector<int64_t> counts;
    std::vector<int32_t> indices;
    std::vector<T> values;
    std::vector<T> keys;  // where they will be compared
};

// Joins the parts, without the entries that keep(part, i) refuses.
template <class T, class Keep>
OwnedCsr<T> joined(const std::vector<Part<T>>& parts, Keep keep) {
    OwnedCsr<T> csr;
    size_t rows = 1, most = 0;
    for (const Part<T>& part : parts) {
        rows += part.counts.size();
        most += part.indices.size();
    }
    csr.offsets.reserve(rows);
    csr.indices.reserve(most);
    csr.values.reserve(most);
    csr.offsets.push_back(0);
    for (const Part<T>& part : parts) {
        size_t i = 0;
        for (const int64_t count : part.counts) {
            for (const size_t end = i + size_t(count); i < end; ++i) {
                if (!keep(part, i)) continue;
                csr.indices.push_back(part.indices[i]);
                csr.values.push_back(part.values[i]);
            }
            csr.offsets.push_back(int64_t(csr.indices.size()));
        }
    }
    return csr;
}

constexpr auto kEverything = [](const auto&, size_t) { return true; };

template <class T>
std::vector<T> all_keys(const std::vector<Part<T>>& parts) {
    std::vector<T> keys;
    for (const Part<T>& part : parts) keys.insert(keys.end(), part.keys.begin(), part.keys.end());
    return keys;
}

// Joins the entries of the `count` largest of all keys, of equal ones the first.
template <class T>
OwnedCsr<T> joined_largest(const std::vector<Part<T>>& parts, std::vector<T> keys, int64_t count) {
    if (int64_t(keys.size()) <= count) return joined(parts, kEverything);
    if (count == 0) return joined(parts, [](const Part<T>&, size_t) { return false; });
    const auto last = keys.begin() + count - 1;
    std::nth_element(keys.begin(), last, keys.end(), std::greater<T>());
    const T least = *last;
    int64_t ties = std::count(keys.begin(), keys.begin() + count, least);
    return joined(parts, [&](const Part<T>& part, size_t i) {
        return part.keys[i] > least || (part.keys[i] == least && ties-- > 0);
    });
}

// One sample's largest keys so far.
template <class T>
class Best {
  public:
    Best(int64_t k, bool positive)
        : k_(size_t(k)), bound_(positive ? T(0) : std::numeric_limits<T>::quiet_NaN()) {}

    // What comes later must exceed this: of equal keys the first stays. Until there are k keys it
    // is 0 or NaN, which everything exceeds here, minus infinity too.
    T bound() const { return bound_; }

    void add(T key, int32_t index) { entries_.push_back({key, index}); }

    // Keeps the best k where there are more.
    void shrink() {
        if (entries_.size() <= k_) return;
        const auto last = entries_.begin() + std::ptrdiff_t(k_) - 1;
        std::nth_element(entries_.begin(), last, entries_.end(),
                         [](const Entry& a, const Entry& b) {
                             return a.key != b.key ? a.key > b.key : a.index < b.index;
                         });
        bound_ = last->key;
        entries_.resize(k_);
    }

    size_t size() const { return entries_.size(); }

    void write(std::vector<int32_t>& indices) const {
        const size_t before = indices.size();
        for (const Entry& entry : entries_) indices.push_back(entry.index);
        std::sort(indices.begin() + std::ptrdiff_t(before), indices.end());
    }

  private:
    struct Entry {
        T key;
        int32_t index;
    };
    size_t k_;
    T bound_;
    std::vector<Entry> entries_;
};

// Which place of `count` keys a guess for a bound is taken from, so that more exceed it.
inline int64_t rank_of_guess(double count) { return int64_t(1.2 * count + 64); }

}  // namespace synthkern
