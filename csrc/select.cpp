#include "select.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels.hpp"
#include "select_parts.hpp"

namespace synthkern {

namespace {

constexpr int64_t kRows = 16;  // to a part

int64_t find_large(const float* row, const float* scale, const float* bounds, float bound,
                   bool magnitude, int64_t n, int32_t* places) {
    return kernels().find_large_f32(row, scale, bounds, bound, magnitude, n, places);
}

int64_t find_large(const double* row, const double* scale, const double* bounds, double bound,
                   bool magnitude, int64_t n, int32_t* places) {
    int64_t count = 0;
    for (int64_t j = 0; j < n; ++j) {
        double key = scale != nullptr ? row[j] * scale[j] : row[j];
        if (magnitude) key = std::abs(key);
        if (!(key <= (bounds != nullptr ? bounds[j] + bound : bound))) places[count++] = int32_t(j);
    }
    return count;
}

float widened(uint16_t bits) {
    const uint32_t wide = uint32_t{bits} << 16;
    float x;
    std::memcpy(&x, &wide, sizeof(x));
    return x;
}

template <class T>
T value_of(const Dense<T>& dense, int64_t at) {
    if constexpr (std::is_same_v<T, float>)
        if (dense.bfloat16 != nullptr) return widened(dense.bfloat16[at]);
    return dense.pre[at];
}

// A sample's pre-activations; what is not there as T is widened in `room` [width], which stays in
// the nearest cache.
template <class T>
const T* row_of(const Dense<T>& dense, int64_t b, std::vector<T>& room) {
    if constexpr (std::is_same_v<T, float>) {
        if (dense.bfloat16 != nullptr) {
            const uint16_t* from = dense.bfloat16 + b * dense.width;
            room.resize(size_t(dense.width));
            for (size_t j = 0; j < room.size(); ++j) room[j] = widened(from[j]);
            return room.data();
        }
    }
    return dense.pre + b * dense.width;
}

template <class T>
T key_of(const Dense<T>& dense, T value, int64_t j) {
    const T key = dense.scale != nullptr ? value * dense.scale[j] : value;
    return ordered(dense.magnitude ? std::abs(key) : key);
}

// Calls row(pre, part, places) for every sample; places has room for a row's indices.
template <class T, class Row>
std::vector<Part<T>> each_sample(const Dense<T>& dense, int threads, const Interrupt& interrupt,
                                 const Row& row) {
    std::vector<Part<T>> parts(size_t((dense.batch + kRows - 1) / kRows));
    parallel(int64_t(parts.size()), threads, interrupt, [&] {
        return [&, places = std::vector<int32_t>(size_t(dense.width)), room = std::vector<T>()](
                   int64_t chunk, Poll& poll) mutable {
            Part<T>& part = parts[size_t(chunk)];
            const int64_t end = std::min(dense.batch, (chunk + 1) * kRows);
            for (int64_t b = chunk * kRows; b < end && !poll.stopped(); ++b) {
                const size_t before = part.indices.size();
                const T* pre = row_of(dense, b, room);
                row(pre, part, places.data());
                part.counts.push_back(int64_t(part.indices.size() - before));
                for (size_t i = before; i < part.indices.size(); ++i)
                    part.values.push_back(pre[part.indices[i]]);
            }
        };
    });
    return parts;
}

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
            keys.push_back(key_of(dense, value_of(dense, at), at % dense.width));
    const double share = double(count) / double(size) * double(keys.size());
    const int64_t rank = rank_of_guess(share);
    if (rank >= int64_t(keys.size())) return 0;
    std::nth_element(keys.begin(), keys.begin() + rank, keys.end(), std::greater<T>());
    // At infinity only NaN would exceed it, though the two are equal.
    return std::clamp(keys[size_t(rank)], T(0), std::numeric_limits<T>::max());
}

// Entries whose key exceeds the bound.
template <class T>
std::vector<Part<T>> candidates(const Dense<T>& dense, T bound, int threads,
                                const Interrupt& interrupt) {
    const auto row = [&](const T* pre, Part<T>& part, int32_t* places) {
        const T* none = nullptr;
        const int64_t found =
            find_large(pre, dense.scale, none, bound, dense.magnitude, dense.width, places);
        part.indices.insert(part.indices.end(), places, places + found);
        for (int64_t i = 0; i < found; ++i)
            part.keys.push_back(key_of(dense, pre[places[i]], places[i]));
    };
    return each_sample(dense, threads, interrupt, row);
}

}  // namespace

template <class T>
OwnedCsr<T> select_topk(const Dense<T>& dense, int64_t k, bool positive, int threads,
                        const Interrupt& interrupt) {
    constexpr int64_t kStep = 256;  // columns between two looks at the bound
    const auto row = [&](const T* pre, Part<T>& part, int32_t* places) {
        Best<T> best(k, positive);
        const T* none = nullptr;
        for (int64_t first = 0; first < dense.width && k > 0; first += kStep) {
            const T* scale = dense.scale == nullptr ? nullptr : dense.scale + first;
            const int64_t found =
                find_large(pre + first, scale, none, best.bound(), dense.magnitude,
                           std::min(kStep, dense.width - first), places);
            for (int64_t i = 0; i < found; ++i)
                best.add(key_of(dense, pre[first + places[i]], first + places[i]),
                         int32_t(first) + places[i]);
            best.shrink();
        }
        best.write(part.indices);
    };
    return joined(each_sample(dense, threads, interrupt, row), kEverything);
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
    return joined_largest(parts, std::move(keys), count);
}

template <class T>
OwnedCsr<T> select_above(const Dense<T>& dense, const T* bounds, int threads,
                         const Interrupt& interrupt) {
    const auto row = [&](const T* pre, Part<T>& part, int32_t* places) {
        const int64_t found =
            find_large(pre, dense.scale, bounds, T(0), false, dense.width, places);
        part.indices.insert(part.indices.end(), places, places + found);
    };
    return joined(each_sample(dense, threads, interrupt, row), kEverything);
}

#define SYNTHKERN_INSTANTIATE(T)                                                                   \
    template OwnedCsr<T> select_topk(const Dense<T>&, int64_t, bool, int, const Interrupt&);       \
    template OwnedCsr<T> select_batch_topk(const Dense<T>&, int64_t, bool, int, const Interrupt&); \
    template OwnedCsr<T> select_above(const Dense<T>&, const T*, int, const Interrupt&);
SYNTHKERN_INSTANTIATE(float)
SYNTHKERN_INSTANTIATE(double)
#undef SYNTHKERN_INSTANTIATE

}  // namespace synthkern
