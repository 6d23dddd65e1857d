// Python's view of matching pursuit.
#include <tuple>

#include "bindings.hpp"
#include "pursuit.hpp"

namespace synthkern {
namespace {

template <class T>
Pursuit<T> pursuit_of(const Array<T>& input, const Array<T>& vectors) {
    Pursuit<T> pursuit{};
    pursuit.batch = rows_of(input, "input");
    pursuit.width = rows_of(vectors, "vectors");
    pursuit.dim = vectors.shape(1);
    pursuit.input = check(input, "input", {pursuit.batch, pursuit.dim});
    pursuit.vectors = check(vectors, "vectors", {pursuit.width, pursuit.dim});
    return pursuit;
}

template <class T>
py::tuple bound_pursue(const Array<T>& input, const Array<T>& vectors, const Array<T>& gram,
                       Array<T> correlations, T residual_threshold, int64_t iterations,
                       bool stop_on_repeat, int threads) {
    Pursuit<T> pursuit = pursuit_of(input, vectors);
    pursuit.gram = check(gram, "gram", {pursuit.width, pursuit.width});
    check(correlations, "correlations", {pursuit.batch, pursuit.width});
    check_at_least_0(iterations, "iterations");
    pursuit.residual_threshold = residual_threshold;
    pursuit.iterations = iterations;
    pursuit.stop_on_repeat = stop_on_repeat;
    T* scratch = correlations.mutable_data();
    Choices<T> all;
    {
        const ReleasedGil no_gil;
        all = pursue(pursuit, scratch, threads, kInterrupt);
    }
    return py::make_tuple(array_of(all.offsets), array_of(all.indices), array_of(all.values));
}

template <class T>
py::tuple bound_grad(const Array<T>& input, const Array<T>& vectors, const Array<int64_t>& offsets,
                     const Array<int32_t>& indices, const Array<T>& values, const Array<T>& grad,
                     int threads) {
    const Pursuit<T> pursuit = pursuit_of(input, vectors);
    const Csr<T> csr = csr_of(offsets, indices, values, pursuit.width);
    check(offsets, "offsets", {pursuit.batch + 1});
    const T* from = check(grad, "grad", {values.size()});
    auto grad_input = new_array<T>({pursuit.batch, pursuit.dim});
    auto grad_vectors = new_array<T>({pursuit.width, pursuit.dim});
    T *to_input = grad_input.mutable_data(), *to_vectors = grad_vectors.mutable_data();
    {
        const ReleasedGil no_gil;
        pursue_grad(pursuit, csr.offsets, csr.indices, csr.values, from, to_input, to_vectors,
                    threads, kInterrupt);
    }
    return py::make_tuple(grad_input, grad_vectors);
}

template <class T>
void bind_typed(py::module_& m) {
    using namespace py::literals;
    m.def("pursue", &bound_pursue<T>, "input"_a.noconvert(), "vectors"_a.noconvert(),
          "gram"_a.noconvert(), "correlations"_a.noconvert(), "residual_threshold"_a,
          "iterations"_a, "stop_on_repeat"_a, "threads"_a);
    m.def("pursue_grad", &bound_grad<T>, "input"_a.noconvert(), "vectors"_a.noconvert(),
          "offsets"_a, "indices"_a, "values"_a.noconvert(), "grad"_a.noconvert(), "threads"_a);
}

}  // namespace

void bind_pursuit(py::module_& m) {
    bind_typed<float>(m);
    bind_typed<double>(m);
}

}  // namespace synthkern
