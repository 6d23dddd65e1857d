// Which latents of an encoder are active, without all of its products: those that cannot be among
// the chosen are told by products of small integers, and the others are computed in full.
#pragma once

#include <cstdint>
#include <optional>

#include "select.hpp"

namespace synthkern {

// Pre-activations inputs[b] . vectors[m] + bias[m], the products as dot_f32 adds them up.
struct Encoder {
    const float* inputs;   // [batch, dim]
    const float* vectors;  // [width, dim]
    const float* bias;     // [width], or null for 0
    const float* scale;    // [width], or null for 1: keys are pre-activations * scale
    int64_t batch, width, dim;
    double most;             // share of the latents that are worth computing one by one
    bool magnitude = false;  // keys are the absolute values
};

// As select_topk, select_batch_topk and select_above of the pre-activations. None where there is
// nothing to be gained: no instructions for it, a number that is not finite or is huge, a scale
// below 0, a batch that a part of it does not speak for, or of which the
// codes tell too little.
std::optional<OwnedCsr<float>> encode_topk(const Encoder& encoder, int64_t k, bool positive,
                                           int threads, const Interrupt& interrupt);
std::optional<OwnedCsr<float>> encode_batch_topk(const Encoder& encoder, int64_t count,
                                                 bool positive, int threads,
                                                 const Interrupt& interrupt);
std::optional<OwnedCsr<float>> encode_above(const Encoder& encoder, const float* bounds,
                                            int threads, const Interrupt& interrupt);

}  // namespace synthkern
