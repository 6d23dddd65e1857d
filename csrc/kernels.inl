// The kernels, included once per instruction set with SYNTHKERN_ISA naming the variant. No
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
#include "select.inl"
#include "pursuit.inl"
#include "screen.inl"
#include "sampler.inl"
// clang-format on

}  // namespace SYNTHKERN_ISA
}  // namespace synthkern
