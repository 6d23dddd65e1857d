#define SYNTHKERN_ISA baseline
#include "kernels.inl"

namespace synthkern {
extern const Kernels kBaseline;
const Kernels kBaseline = {
    "baseline",        baseline::make_sampler,   baseline::gather_f32,       baseline::gather_f64,
    baseline::dot_f32, baseline::find_large_f32, baseline::subtract_and_find};
}  // namespace synthkern
