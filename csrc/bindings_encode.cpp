// Python's view of the encoder's active latents.
#include <pybind11/stl.h>

#include <limits>
#include <optional>

#include "bindings.hpp"
#include "encode.hpp"
#include "kernels.hpp"

namespace synthkern {
namespace {

using MaybeVector = std::optional<Array<float>>;

Encoder encoder_of(const Array<float>& inputs, const Array<float>& vectors, const MaybeVector& bias,
                   const MaybeVector& scale, double most, bool magnitude = false) {
    const int64_t batch = rows_of(inputs, "inputs"), width = rows_of(vectors, "vectors");
    const int64_t dim = inputs.shape(1);
    check_at_least_0(std::numeric_limits<int32_t>::max() - width,
                     "2**31 - 1 - the rows of vectors");
    const auto maybe = [&](const MaybeVector& vector, const char* name) {
        return vector ? check(*vector, name, {width}) : nullptr;
    };
    return {check(inputs, "inputs", {batch, dim}),
            check(vectors, "vectors", {width, dim}),
            maybe(bias, "bias"),
            maybe(scale, "scale"),
            batch,
            width,
            dim,
            most,
            magnitude};
}

// Calls encode() without the GIL.
template <class Encode>
std::optional<py::tuple> encoded(const Encode& encode) {
    std::optional<OwnedCsr<float>> csr;
    {
        const ReleasedGil no_gil;
        csr = encode();
    }
    if (!csr) return std::nullopt;
    return py::make_tuple(array_of(csr->offsets), array_of(csr->indices), array_of(csr->values));
}

}  // namespace

void bind_encode(py::module_& m) {
    using namespace py::literals;
    m.def("has_codes", [] { return kernels().coder != nullptr; });
    m.def(
        "encode_topk",
        [](const Array<float>& inputs, const Array<float>& vectors, const MaybeVector& bias,
           const MaybeVector& scale, int64_t k, bool positive, bool magnitude, double most,
           int threads) {
            check_at_least_0(k, "k");
            const Encoder encoder = encoder_of(inputs, vectors, bias, scale, most, magnitude);
            return encoded([&] { return encode_topk(encoder, k, positive, threads, kInterrupt); });
        },
        "inputs"_a.noconvert(), "vectors"_a.noconvert(), "bias"_a.noconvert().none(true),
        "scale"_a.noconvert().none(true), "k"_a, "positive"_a, "magnitude"_a, "most"_a,
        "threads"_a);
    m.def(
        "encode_batch_topk",
        [](const Array<float>& inputs, const Array<float>& vectors, const MaybeVector& bias,
           const MaybeVector& scale, int64_t count, bool positive, double most, int threads) {
            check_at_least_0(count, "count");
            const Encoder encoder = encoder_of(inputs, vectors, bias, scale, most);
            return encoded(
                [&] { return encode_batch_topk(encoder, count, positive, threads, kInterrupt); });
        },
        "inputs"_a.noconvert(), "vectors"_a.noconvert(), "bias"_a.noconvert().none(true),
        "scale"_a.noconvert().none(true), "count"_a, "positive"_a, "most"_a, "threads"_a);
    m.def(
        "encode_above",
        [](const Array<float>& inputs, const Array<float>& vectors, const MaybeVector& bias,
           const Array<float>& bounds, double most, int threads) {
            const Encoder encoder = encoder_of(inputs, vectors, bias, MaybeVector(), most);
            const float* above = check(bounds, "bounds", {encoder.width});
            return encoded([&] { return encode_above(encoder, above, threads, kInterrupt); });
        },
        "inputs"_a.noconvert(), "vectors"_a.noconvert(), "bias"_a.noconvert().none(true),
        "bounds"_a.noconvert(), "most"_a, "threads"_a);
}

}  // namespace synthkern
