"""Builds the C++ core; everything else is in pyproject.toml."""

import platform
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import setup

# One source per instruction set; which one runs is chosen at run time (csrc/dispatch.cpp).
VARIANTS = {
    "kernels_avx2.cpp": ["-mavx2", "-mfma"],
    # 256-bit vectors but for the gather: the sampler's lanes are eight words wide.
    "kernels_avx512.cpp": ["-mavx2", "-mfma"]
    + [f"-mavx512{part}" for part in ("f", "bw", "dq", "vl")],
}
# The stream is defined without contraction; a fused multiply-add is written where it is meant.
FLAGS = [
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-pthread",
]


class BuildCore(build_ext):
    """Compiles each kernel variant with the flags of its instruction set."""

    def build_extensions(self):
        compile_one = self.compiler._compile

        def with_variant_flags(obj, src, ext, cc_args, extra_postargs, pp_opts):
            flags = [*extra_postargs, *VARIANTS.get(Path(src).name, [])]
            compile_one(obj, src, ext, cc_args, flags, pp_opts)

        self.compiler._compile = with_variant_flags
        super().build_extensions()


on_x86 = platform.machine().lower() in ("x86_64", "amd64")
sources = [
    str(path) for path in sorted(Path("csrc").glob("*.cpp")) if on_x86 or path.name not in VARIANTS
]
core = Pybind11Extension(
    "synthkern._core",
    sources,
    depends=[str(path) for path in sorted(Path("csrc").glob("*.[hi]*"))],
    cxx_std=17,
    extra_compile_args=FLAGS,
    extra_link_args=["-pthread", "-ldl"],
)

with ParallelCompile("NPY_NUM_BUILD_JOBS", default=2):
    setup(ext_modules=[core], cmdclass={"build_ext": BuildCore})
