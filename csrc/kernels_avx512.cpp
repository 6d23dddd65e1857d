#define SYNTHKERN_ISA avx512
#include "kernels.inl"

namespace synthkern {
extern const Kernels kAvx512;
const Kernels kAvx512 = {
    "avx512",        avx512::make_sampler,   avx512::gather_f32,       avx512::gather_f64,
    avx512::dot_f32, avx512::find_large_f32, avx512::subtract_and_find};
}  // namespace synthkern
