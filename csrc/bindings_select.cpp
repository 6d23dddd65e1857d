// Python's view of the selection of active latents.
#include <pybind11/stl.h>

#include <limits>
#include <optional>
#include <type_traits>

#include "bindings.hpp"
#include "select.hpp"

namespace synthkern {
namespace {

template <class T>
using MaybeArray = std::optional<Array<T>>;

// Pre: of the pre-activations as they are given, bfloat16 ones by their bits; T: what they are
// selected as.
template <class Pre, class T>
Dense<T> dense_of(const Array<Pre>& pre, const MaybeArray<T>& scale, bool magnitude = false) {
    const int64_t batch = rows_of(pre, "pre"), width = pre.shape(1);
    check_at_least_0(std::numeric_limits<int32_t>::max() - width, "2**31 - 1 - the width of pre");
    Dense<T> dense{nullptr, scale ? check(*scale, "scale", {width}) : nullptr, batch, width,
                   magnitude};
    const Pre* data = check(pre, "pre", {batch, width});
    if constexpr (std::is_same_v<Pre, T>)
        dense.pre = data;
    else
        dense.bfloat16 = data;
    return dense;
}

// Calls select(dense) without the GIL.
template <class T, class Select>
py::tuple selected(const Dense<T>& dense, const Select& select) {
    OwnedCsr<T> csr;
    {
        const ReleasedGil no_gil;
        csr = select(dense);
    }
    return py::make_tuple(array_of(csr.offsets), array_of(csr.indices), array_of(csr.values));
}

template <class Pre, class T>
void bind_typed(py::module_& m) {
    using namespace py::literals;
    m.def(
        "select_topk",
        [](const Array<Pre>& pre, const MaybeArray<T>& scale, int64_t k, bool positive,
           bool magnitude, int threads) {
            check_at_least_0(k, "k");
            return selected(dense_of(pre, scale, magnitude), [&](const Dense<T>& dense) {
                return select_topk(dense, k, positive, threads, kInterrupt);
            });
        },
        "pre"_a.noconvert(), "scale"_a.noconvert().none(true), "k"_a, "positive"_a, "magnitude"_a,
        "threads"_a);
    m.def(
        "select_batch_topk",
        [](const Array<Pre>& pre, const MaybeArray<T>& scale, int64_t count, bool positive,
           int threads) {
            check_at_least_0(count, "count");
            return selected(dense_of(pre, scale), [&](const Dense<T>& dense) {
                return select_batch_topk(dense, count, positive, threads, kInterrupt);
            });
        },
        "pre"_a.noconvert(), "scale"_a.noconvert().none(true), "count"_a, "positive"_a,
        "threads"_a);
    m.def(
        "select_above",
        [](const Array<Pre>& pre, const Array<T>& bounds, int threads) {
            const T* from = check(bounds, "bounds", {pre.ndim() == 2 ? pre.shape(1) : -1});
            return selected(dense_of(pre, MaybeArray<T>()), [&](const Dense<T>& dense) {
                return select_above(dense, from, threads, kInterrupt);
            });
        },
        "pre"_a.noconvert(), "bounds"_a.noconvert(), "threads"_a);
}

}  // namespace

void bind_select(py::module_& m) {
    bind_typed<float, float>(m);
    bind_typed<double, double>(m);
    bind_typed<uint16_t, float>(m);
}

}  // namespace synthkern
