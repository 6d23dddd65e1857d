#include "select.hpp"

#include <algorithm>
#include <limits>

#include "kernels.hpp"

namespace synthkern {

namespace {

constexpr int64_t kRows = 16;  // to a part

int64_t find_large(const float* row, const float* scale, const float* bounds, float bound,
                   int64_t n, int32_t* places) {
    return kernels().find_large_f32(row, scale, bounds, bound, n, places);
}

int64_t find_large(const double* row, const double* scale, const double* bounds, double bound,
                   int64_t n, int32_t* places) {
    int64_t count = 0;
    for (int64_t j = 0; j < n; ++j) {
        const double key = scale != nullptr ? row[j] * scale[j] : row[j];
        if (!(key <= (bounds != nullptr ? bounds[j] + bound : bound))) places[count++] = int32_t(j);
    }
    return count;
}

template <class T>
T ordered(T key) {
    return key == key ? key : std::numeric_limits<T>::infinity();
}

template <class T>
T key_of(const Dense<T>& dense, int64_t b, int64_t j) {
    const T value = dense.pre[b * dense.width + j];
    return ordered(dense.scale != nullptr ? value * dense.scale[j] : value);
}

// Some consecutive samples' share of the result.
template <class T>
struct Part {
    std::vector<int64_t> counts;
    std::vector<int32_t> indices;
    std::vector<T> keys;  // where they will be compared
};

// Calls row(b, part, places) for every sample; places has room for a row's indices.
template <class T, class Row>
std::vector<Part<T>> each_sample(const Dense<T>& dense, int threads, const Interrupt& interrupt,
                                 const Row& row) {
    std::vector<Part<T>> parts(size_t((dense.batch + kRows - 1) / kRows));
    parallel(int64_t(parts.size()), threads, interrupt, [&] {
        return [&, places = std::vector<int32_t>(size_t(dense.width))](int64_t chunk,
                                                                       Poll& poll) mutable {
            Part<T>& part = parts[size_t(chunk)];
            const int64_t end = std::min(dense.batch, (chunk + 1) * kRows);
            for (int64_t b = chunk * kRows; b < end && !poll.stopped(); ++b) {
                const size_t before = part.indices.size();
                row(b, part, places.data());
                part.counts.push_back(int64_t(part.indices.size() - before));
            }
        };
    });
    return parts;
}

// Joins the parts, without the entries that keep(part, i) refuses, and fetches their values.
template <class T, class Keep>
OwnedCsr<T> joined(const Dense<T>& dense, const std::vector<Part<T>>& parts, Keep keep) {
    OwnedCsr<T> csr;
    size_t most = 0;
    for (const Part<T>& part : parts) most += part.indices.size();
    csr.offsets.reserve(size_t(dense.batch) + 1);
    csr.indices.reserve(most);
    csr.values.reserve(most);
    csr.offsets.push_back(0);
    int64_t b = 0;
    for (const Part<T>& part : parts) {
        size_t i = 0;
        for (const int64_t count : part.counts) {
            const T* row = dense.pre + b++ * dense.width;
            for (const size_t end = i + size_t(count); i < end; ++i) {
                if (!keep(part, i)) continue;
                csr.indices.push_back(part.indices[i]);
                csr.values.push_back(row[part.indices[i]]);
            }
            csr.offsets.push_back(int64_t(csr.indices.size()));
        }
    }
    return csr;
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

    void write(std::vector<int32_t>& indices) {
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

// A bound that somewhat more than `count` keys should exceed, by a sample of them; 0 where there
// are too few to tell.
template <class T>
T guess_bound(const Dense<T>& dense, int64_t count) {
    constexpr int64_t kRun = 16, kSpread = 61;  // a cache line of every 61
    const int64_t size = dense.batch * dense.width;
    if (size < kRun * kSpread * 256) return 0;
    std::vector<T> keys;
    keys.reserve(size_t(size / kSpread + kRun));
    for (int64_t first = 0; first < size; first += kRun * kSpread)
        for (int64_t at = first; at < std::min(size, first + kRun); ++at)
            keys.push_back(key_of(dense, at / dense.width, at % dense.width));
    const double share = double(count) / double(size) * double(keys.size());
    const auto rank = int64_t(1.2 * share + 64);
    if (rank >= int64_t(keys.size())) return 0;
    std::nth_element(keys.begin(), keys.begin() + rank, keys.end(), std::greater<T>());
    // At infinity only NaN would exceed it, though the two are equal.
    return std::clamp(keys[size_t(rank)], T(0), std::numeric_limits<T>::max());
}

// Entries whose key exceeds the bound.
template <class T>
std::vector<Part<T>> candidates(const Dense<T>& dense, T bound, int threads,
                                const Interrupt& interrupt) {
    return each_sample(dense, threads, interrupt, [&](int64_t b, Part<T>& part, int32_t* places) {
        const T* none = nullptr;
        const int64_t found =
            find_large(dense.pre + b * dense.width, dense.scale, none, bound, dense.width, places);
        part.indices.insert(part.indices.end(), places, places + found);
        for (int64_t i = 0; i < found; ++i) part.keys.push_back(key_of(dense, b, places[i]));
    });
}

template <class T>
std::vector<T> all_keys(const std::vector<Part<T>>& parts) {
    std::vector<T> keys;
    for (const Part<T>& part : parts) keys.insert(keys.end(), part.keys.begin(), part.keys.end());
    return keys;
}

constexpr auto kEverything = [](const auto&, size_t) { return true; };

}  // namespace

template <class T>
OwnedCsr<T> select_topk(const Dense<T>& dense, int64_t k, bool positive, int threads,
                        const Interrupt& interrupt) {
    constexpr int64_t kStep = 256;  // columns between two looks at the bound
    const auto row = [&](int64_t b, Part<T>& part, int32_t* places) {
        Best<T> best(k, positive);
        const T* none = nullptr;
        for (int64_t first = 0; first < dense.width && k > 0; first += kStep) {
            const T* scale = dense.scale == nullptr ? nullptr : dense.scale + first;
            const int64_t found =
                find_large(dense.pre + b * dense.width + first, scale, none, best.bound(),
                           std::min(kStep, dense.width - first), places);
            for (int64_t i = 0; i < found; ++i)
                best.add(key_of(dense, b, first + places[i]), int32_t(first) + places[i]);
            best.shrink();
        }
        best.write(part.indices);
    };
    return joined(dense, each_sample(dense, threads, interrupt, row), kEverything);
}

template <class T>
OwnedCsr<T> select_batch_topk(const Dense<T>& dense, int64_t count, bool positive, int threads,
                              const Interrupt& interrupt) {
    const T bound = guess_bound(dense, count);
    std::vector<Part<T>> parts = candidates(dense, bound, threads, interrupt);
    std::vector<T> keys = all_keys(parts);
    if (int64_t(keys.size()) < count && (bound > 0 || !positive)) {
        // Everything exceeds NaN here, minus infinity too.
        const T lowest = positive ? T(0) : std::numeric_limits<T>::quiet_NaN();
        parts = candidates(dense, lowest, threads, interrupt);
        keys = all_keys(parts);
    }
    if (int64_t(keys.size()) <= count) return joined(dense, parts, kEverything);
    if (count == 0) return joined(dense, parts, [](const Part<T>&, size_t) { return false; });
    const auto last = keys.begin() + count - 1;
    std::nth_element(keys.begin(), last, keys.end(), std::greater<T>());
    const T least = *last;
    int64_t ties = std::count(keys.begin(), keys.begin() + count, least);
    return joined(dense, parts, [&](const Part<T>& part, size_t i) {
        return part.keys[i] > least || (part.keys[i] == least && ties-- > 0);
    });
}

template <class T>
OwnedCsr<T> select_above(const Dense<T>& dense, const T* bounds, int threads,
                         const Interrupt& interrupt) {
    const auto row = [&](int64_t b, Part<T>& part, int32_t* places) {
        const int64_t found =
            find_large(dense.pre + b * dense.width, dense.scale, bounds, T(0), dense.width, places);
        part.indices.insert(part.indices.end(), places, places + found);
    };
    return joined(dense, each_sample(dense, threads, interrupt, row), kEverything);
}

#define SYNTHKERN_INSTANTIATE(T)                                                                   \
    template OwnedCsr<T> select_topk(const Dense<T>&, int64_t, bool, int, const Interrupt&);       \
    template OwnedCsr<T> select_batch_topk(const Dense<T>&, int64_t, bool, int, const Interrupt&); \
    template OwnedCsr<T> select_above(const Dense<T>&, const T*, int, const Interrupt&);
SYNTHKERN_INSTANTIATE(float)
SYNTHKERN_INSTANTIATE(double)
#undef SYNTHKERN_INSTANTIATE

}  // namespace synthkern
