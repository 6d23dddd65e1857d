// The kernels; setup.py compiles this file once for each instruction set, with its flags and
// SYNTHKERN_ISA naming it. No
// standard templates in here: their instances would be shared by the linker between variants.

#include "kernels.hpp"

#include "lanes.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace synthkern {
namespace SYNTHKERN_ISA {

// clang-format off: each builds on the one before.
#include "gather.inl"
#include "dot.inl"
#include "codes.inl"
#include "select.inl"
#include "pursuit.inl"
#include "screen.inl"
#include "magnitudes.inl"
#include "noise.inl"
#include "sequence.inl"
#include "sampler.inl"
// clang-format on

#define SYNTHKERN_NAME_OF(isa) #isa
#define SYNTHKERN_NAME(isa) SYNTHKERN_NAME_OF(isa)

extern const Kernels kKernels;
const Kernels kKernels = {SYNTHKERN_NAME(SYNTHKERN_ISA),
                          make_sampler,
                          gather_f32,
                          gather_f64,
                          add_noise_f32,
                          add_noise_f64,
                          dot_f32,
                          find_large_f32,
                          subtract_and_find,
                          kCoder};

}  // namespace SYNTHKERN_ISA
}  // namespace synthkern
