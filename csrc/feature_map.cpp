#include "feature_map.hpp"

#include <algorithm>
#include <cmath>

namespace synthkern {

namespace {

// Samples to a part: what a thread takes at a time.
constexpr int64_t kSamples = 64;

}  // namespace

template <class T>
std::vector<CsrPart<T>> apply_map(const Csr<T>& activations, const Csr<T>& weights,
                                  const T* thresholds, int threads, const Interrupt& interrupt) {
    const int64_t chunks = (activations.batch + kSamples - 1) / kSamples;
    std::vector<CsrPart<T>> parts{size_t(chunks)};
    parallel(chunks, threads, interrupt, [&] {
        // Of the sample at hand: each output's sum, whether it has one yet, and which have.
        std::vector<T> sums(size_t(weights.num_features), 0);
        std::vector<uint8_t> begun(size_t(weights.num_features), 0);
        std::vector<int32_t> reached;
        return [&, sums, begun, reached](int64_t chunk, Poll& poll) mutable {
            CsrPart<T>& part = parts[size_t(chunk)];
            const int64_t end = std::min(activations.batch, (chunk + 1) * kSamples);
            for (int64_t b = chunk * kSamples; b < end && !poll.stopped(); ++b) {
                for (int64_t i = activations.offsets[b]; i < activations.offsets[b + 1]; ++i) {
                    const int64_t j = activations.indices[i];
                    for (int64_t e = weights.offsets[j]; e < weights.offsets[j + 1]; ++e) {
                        const size_t k = size_t(weights.indices[e]);
                        if (!begun[k]) {
                            begun[k] = 1;
                            sums[k] = 0;
                            reached.push_back(int32_t(k));
                        }
                        sums[k] = std::fma(weights.values[e], activations.values[i], sums[k]);
                    }
                }
                std::sort(reached.begin(), reached.end());
                const size_t before = part.indices.size();
                for (const int32_t k : reached) {
                    begun[size_t(k)] = 0;
                    const T value = sums[size_t(k)] - thresholds[k];
                    if (value <= 0) continue;
                    part.indices.push_back(k);
                    part.values.push_back(value);
                }
                reached.clear();
                part.counts.push_back(int64_t(part.indices.size() - before));
            }
        };
    });
    return parts;
}

#define SYNTHKERN_INSTANTIATE(T)                                                            \
    template std::vector<CsrPart<T>> apply_map(const Csr<T>&, const Csr<T>&, const T*, int, \
                                               const Interrupt&);
SYNTHKERN_INSTANTIATE(float)
SYNTHKERN_INSTANTIATE(double)
#undef SYNTHKERN_INSTANTIATE

}  // namespace synthkern
