#include "bindings.hpp"
#include "noise.hpp"

namespace synthkern {
namespace {

template <class T>
void bound_add_noise(Array<T>& hidden, const Array<float>& std, const Array<float>& factor,
                     uint64_t seed, uint64_t start, int threads) {
    const Noise noise = noise_of(std, factor);
    const int64_t batch = rows_of(hidden, "hidden");
    check(hidden, "hidden", {batch, noise.dim});
    T* to = hidden.mutable_data();
    const ReleasedGil no_gil;
    add_noise(noise, seed, start, to, batch, threads, kInterrupt);
}

}  // namespace

void bind_noise(py::module_& m) {
    using namespace py::literals;
    m.def("add_noise", &bound_add_noise<float>, "hidden"_a.noconvert(), "std"_a.noconvert(),
          "factor"_a.noconvert(), "seed"_a, "start"_a, "threads"_a);
    m.def("add_noise", &bound_add_noise<double>, "hidden"_a.noconvert(), "std"_a.noconvert(),
          "factor"_a.noconvert(), "seed"_a, "start"_a, "threads"_a);
}

}  // namespace synthkern
