#define SYNTHKERN_ISA avx2
#include "kernels.inl"

namespace synthkern {
extern const Kernels kAvx2;
const Kernels kAvx2 = {
    "avx2",        avx2::make_sampler,   avx2::gather_f32,       avx2::gather_f64,
    avx2::dot_f32, avx2::find_large_f32, avx2::subtract_and_find};
}  // namespace synthkern
