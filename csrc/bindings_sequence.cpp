#include "bindings_sequence.hpp"

#include <cmath>
#include <string>

namespace synthkern {

// Twice the length must fit 31 bits.
constexpr int64_t kMostPositions = int64_t{1} << 30;

BoundSequence::BoundSequence(int64_t length, const Array<int32_t>& laws,
                             const Array<int32_t>& threshold, const Array<double>& persistence,
                             const Array<int32_t>& law_of, int64_t factor_law)
    : num_features_(law_of.size()) {
    check_within(length, 1, kMostPositions, "length");
    const int64_t num_laws = persistence.size(), size = threshold.size();
    const int32_t* law = check(laws, "laws", {num_laws, 3});
    const double* rho = check(persistence, "persistence", {num_laws});
    const int32_t* bits = check(threshold, "threshold", {size});
    const int32_t* of = check(law_of, "law_of", {num_features_});
    threshold_.assign(bits, bits + size);
    threshold_.push_back(0);  // looked at by laws without thresholds
    for (int64_t m = 0; m < num_laws; ++m) {
        const HoldingLaw each{law[3 * m], law[3 * m + 1], law[3 * m + 2],
                              law[3 * m + 1] > 0 ? float(1 / std::log2(rho[m])) : 0.0f};
        check_within(each.begin, 0, size, "begin of a law");
        check_within(each.size, 0, size - each.begin, "size of a law");
        check_within(each.least, 0, length - each.size, "least of a law");
        law_.push_back(each);
    }
    check_within(factor_law, 0, num_laws - 1, "factor_law");
    law_of_.assign(of, of + num_features_);
    for (const int32_t m : law_of_) check_within(m, 0, num_laws - 1, "law_of");
    // Lists of features are padded, and read in whole blocks.
    law_of_.resize(size_t(num_features_ + 2 * kBlock), 0);
    view_ = {uint32_t(length), law_.data(), threshold_.data(), law_of_.data(), int32_t(factor_law)};
}

Sequences BoundSequence::view(int64_t num_features) const {
    if (num_features != num_features_)
        throw std::invalid_argument("sequence must be of " + std::to_string(num_features) +
                                    " features, got " + std::to_string(num_features_));
    return view_;
}

void bind_sequence(py::module_& m) {
    using namespace py::literals;
    py::class_<BoundSequence>(m, "Sequence")
        .def(py::init<int64_t, Array<int32_t>, Array<int32_t>, Array<double>, Array<int32_t>,
                      int64_t>(),
             "length"_a, "laws"_a.noconvert(), "threshold"_a.noconvert(),
             "persistence"_a.noconvert(), "law_of"_a.noconvert(), "factor_law"_a);
}

}  // namespace synthkern
