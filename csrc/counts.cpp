#include "counts.hpp"

#include <algorithm>
#include <vector>

namespace synthkern {

namespace {

// CsrPlaces to a thread that are worth counts of its own and their addition at the end.
constexpr int64_t kEntriesPerThread = 1 << 16;

void add(int64_t* to, const std::vector<int64_t>& from) {
    for (size_t i = 0; i < from.size(); ++i) to[i] += from[i];
}

// The counts of some samples: apart from those of others, so that threads share nothing.
struct Part {
    Part(int64_t num_latents, int64_t num_features)
        : fires(size_t(num_latents)),
          hits(size_t(num_latents)),
          feature_fires(size_t(num_features)) {}
    std::vector<int64_t> fires, hits, feature_fires;
};

}  // namespace

void count_fires(const CsrPlaces& latents, const CsrPlaces& features, int64_t batch,
                 const int32_t* matched, const FiringCounts& counts, int threads,
                 const Interrupt& interrupt) {
    const int64_t entries = latents.offsets[batch] + features.offsets[batch];
    const int64_t shares =
        std::max<int64_t>(1, std::min({int64_t{threads}, batch, entries / kEntriesPerThread}));
    std::vector<Part> parts(size_t(shares), Part(latents.width, features.width));
    parallel(shares, threads, interrupt, [&] {
        // Whether the sample at hand has the feature.
        std::vector<uint8_t> on(size_t(features.width), 0);
        return [&, on](int64_t share, Poll& poll) mutable {
            Part& part = parts[size_t(share)];
            const int64_t end = batch * (share + 1) / shares;
            for (int64_t b = batch * share / shares; b < end && !poll.stopped(); ++b) {
                const int32_t* first = features.indices + features.offsets[b];
                const int32_t* last = features.indices + features.offsets[b + 1];
                for (const int32_t* j = first; j < last; ++j) {
                    on[size_t(*j)] = 1;
                    ++part.feature_fires[size_t(*j)];
                }
                for (int64_t i = latents.offsets[b]; i < latents.offsets[b + 1]; ++i) {
                    const size_t m = size_t(latents.indices[i]);
                    ++part.fires[m];
                    part.hits[m] += on[size_t(matched[m])];
                }
                for (const int32_t* j = first; j < last; ++j) on[size_t(*j)] = 0;
            }
        };
    });
    for (const Part& part : parts) {
        add(counts.fires, part.fires);
        add(counts.hits, part.hits);
        add(counts.feature_fires, part.feature_fires);
    }
}

}  // namespace synthkern
