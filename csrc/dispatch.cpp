// The choice of instruction set.
#include <atomic>
#include <stdexcept>

#include "kernels.hpp"

namespace synthkern {

// clang-format off: a line each.
namespace baseline { extern const Kernels kKernels; }
#if defined(__x86_64__)
namespace avx2 { extern const Kernels kKernels; }
namespace avx512 { extern const Kernels kKernels; }
namespace avx512vnni { extern const Kernels kKernels; }
#endif
// clang-format on

const std::vector<const Kernels*>& available_kernels() {
    static const std::vector<const Kernels*> variants = [] {
        std::vector<const Kernels*> found{&baseline::kKernels};
#if defined(__x86_64__)
        __builtin_cpu_init();
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        if (avx2) found.push_back(&avx2::kKernels);
        const bool avx512 =
            avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
        if (avx512) found.push_back(&avx512::kKernels);
        if (avx512 && __builtin_cpu_supports("avx512vnni")) found.push_back(&avx512vnni::kKernels);
#endif
        return found;
    }();
    return variants;
}

// Other threads may be at work while it is changed.
static std::atomic<const Kernels*>& chosen() {
    static std::atomic<const Kernels*> choice{available_kernels().back()};
    return choice;
}

const Kernels& kernels() { return *chosen().load(std::memory_order_relaxed); }

void choose_kernels(const std::string& name) {
    std::string known;
    for (const Kernels* variant : available_kernels()) {
        if (name == variant->name) {
            chosen() = variant;
            return;
        }
        known += (known.empty() ? "" : ", ") + std::string(variant->name);
    }
    throw std::invalid_argument(
        "name must be one of the instruction sets that this machine runs (" + known + "), got '" +
        name + "'");
}

}  // namespace synthkern
