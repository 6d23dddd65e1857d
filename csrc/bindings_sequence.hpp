// A plan's sequences with arrays of their own: what is checked here must not change later.
#pragma once

#include <vector>

#include "bindings.hpp"
#include "plan.hpp"

namespace synthkern {

class BoundSequence {
  public:
    // laws: [M, 3] begin, size, least; threshold: [K], bits of 32-bit words; law_of: [N].
    BoundSequence(int64_t length, const Array<int32_t>& laws, const Array<int32_t>& threshold,
                  const Array<double>& persistence, const Array<int32_t>& law_of,
                  int64_t factor_law);
    BoundSequence(const BoundSequence&) = delete;

    // Throws std::invalid_argument where it is of another number of features.
    Sequences view(int64_t num_features) const;

  private:
    std::vector<HoldingLaw> law_;
    std::vector<uint32_t> threshold_;
    std::vector<int32_t> law_of_;
    int64_t num_features_;
    Sequences view_;
};

void bind_sequence(py::module_& m);

}  // namespace synthkern
