// Sparse maps: outputs that are thresholded sums of what fires.
#pragma once

#include <cstdint>
#include <vector>

#include "dictionary.hpp"
#include "parallel.hpp"

namespace synthkern {

// Outputs of samples: entry k of a sample is sum_j weight[j, k] * value_j - thresholds[k], fused
// multiply-adds from 0 over the sample's entries in their order, where that is above 0, or NaN.
//
// weights: the outputs [weights.num_features] that each feature has an edge to, a feature to a
// "sample"; thresholds: [weights.num_features], at least 0. Work follows the edges of what fires.
template <class T>
std::vector<CsrPart<T>> apply_map(const Csr<T>& activations, const Csr<T>& weights,
                                  const T* thresholds, int threads, const Interrupt& interrupt);

}  // namespace synthkern
