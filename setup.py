"""Builds the C++ core; everything else is in pyproject.toml."""

import platform
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import setup

# kernels.cpp is compiled for each; which one runs is chosen at run time (csrc/dispatch.cpp).
INSTRUCTION_SETS = {"baseline": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    AVX2 = ["-mavx2", "-mfma"]
    # Vectors of 512 bits where the source asks for them; the compiler's own stay at 256.
    AVX512 = AVX2 + [f"-mavx512{part}" for part in ("f", "bw", "dq", "vl")]
    INSTRUCTION_SETS |= {"avx2": AVX2, "avx512": AVX512, "avx512vnni": [*AVX512, "-mavx512vnni"]}
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
    """Compiles the kernels once for each instruction set, with its flags."""

    def build_extension(self, ext):
        for name, flags in INSTRUCTION_SETS.items():
            ext.extra_objects += self.compiler.compile(
                [KERNELS],
                output_dir=f"{self.build_temp}/{name}",
                macros=[("SYNTHKERN_ISA", name)],
                include_dirs=ext.include_dirs,
                extra_postargs=[*ext.extra_compile_args, *flags],
                depends=ext.depends,
            )
        super().build_extension(ext)


KERNELS = "csrc/kernels.cpp"
sources = sorted(str(path) for path in Path("csrc").glob("*.cpp") if str(path) != KERNELS)
core = Pybind11Extension(
    "synthkern._core",
    sources,
    depends=[KERNELS, *sorted(str(path) for path in Path("csrc").glob("*.[hi]*"))],
    cxx_std=17,
    extra_compile_args=FLAGS,
    extra_link_args=["-pthread", "-ldl"],
)

with ParallelCompile("NPY_NUM_BUILD_JOBS", default=2):
    setup(ext_modules=[core], cmdclass={"build_ext": BuildCore})
