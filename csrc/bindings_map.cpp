// Python's view of sparse maps.
#include <limits>

#include "bindings.hpp"
#include "feature_map.hpp"

namespace synthkern {
namespace {

template <class T>
py::tuple bound_apply_map(const Array<int64_t>& offsets, const Array<int32_t>& indices,
                          const Array<T>& values, const Array<int64_t>& edge_offsets,
                          const Array<int32_t>& edge_outputs, const Array<T>& weights,
                          const Array<T>& thresholds, int threads) {
    check_within(thresholds.size(), 0, std::numeric_limits<int32_t>::max(), "outputs");
    const Csr<T> edges = csr_of(edge_offsets, edge_outputs, weights, thresholds.size());
    const Csr<T> csr = csr_of(offsets, indices, values, edges.batch);
    const T* bounds = check(thresholds, "thresholds", {edges.num_features});
    std::vector<CsrPart<T>> parts;
    {
        const ReleasedGil no_gil;
        parts = apply_map(csr, edges, bounds, threads, kInterrupt);
    }
    const auto [out_offsets, out_indices, out_values] = joined(parts, csr.batch);
    return py::make_tuple(out_offsets, out_indices, out_values);
}

template <class T>
void bind_typed(py::module_& m) {
    using namespace py::literals;
    m.def("apply_map", &bound_apply_map<T>, "offsets"_a, "indices"_a, "values"_a.noconvert(),
          "edge_offsets"_a, "edge_outputs"_a, "weights"_a.noconvert(), "thresholds"_a.noconvert(),
          "threads"_a);
}

}  // namespace

void bind_map(py::module_& m) {
    bind_typed<float>(m);
    bind_typed<double>(m);
}

}  // namespace synthkern
