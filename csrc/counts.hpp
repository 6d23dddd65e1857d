// How often latents fire, and how often together with the feature that each is matched with.
#pragma once

#include <cstdint>

#include "parallel.hpp"

namespace synthkern {

// Which entries samples in CSR form have.
struct CsrPlaces {
    const int64_t* offsets;  // [batch + 1]
    const int32_t* indices;  // [nnz], of [0, width)
    int64_t width;
};

// Where counts are added.
struct FiringCounts {
    int64_t* fires;          // [latents.width], samples in which the latent fires
    int64_t* hits;           // [latents.width], those in which its feature fires too
    int64_t* feature_fires;  // [features.width], samples in which the feature fires
};

// matched: [latents.width], the feature of each latent. Work follows the entries.
void count_fires(const CsrPlaces& latents, const CsrPlaces& features, int64_t batch,
                 const int32_t* matched, const FiringCounts& counts, int threads,
                 const Interrupt& interrupt);

}  // namespace synthkern
