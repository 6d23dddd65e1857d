"""Every Triton kernel compiled for three GPUs that are not there: what its machine code asks for,
and that its arithmetic is the stream's. benchmarks/compile_kernels.py does the compiling."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import run_script

from synthkern.engine.triton import launch

# The kernels are compiled once.
pytestmark = pytest.mark.xdist_group("compiled kernels")

TARGETS = {"sm_80", "sm_90", "gfx942"}

# Bytes of spilled registers that a thread's instructions store, 68 at most today and mostly none.
# Those few are of numbers that a tile needs once, and ptxas chooses them anew with every change of
# the code. 128 bytes are 32 registers: what must not happen is that whole tiles are spilled.
MOST_STORED = 128
# What every card gives a program without asking; a program of one warp should stay far below, or
# shared memory and not registers decides how many there are on a multiprocessor.
MOST_SHARED = 48 * 1024

# Kernels in which no product is added to anything within one rounding.
UNFUSED = {
    "factors_kernel",
    "collect_kernel",
    "drop_zeros_kernel",
    "count_kernel",
    "fill_kernel",
    "forest_dense_kernel",
    "forest_csr_kernel",
    "rows_kernel",
    "digits_kernel",
    "cuts_kernel",
    "kept_kernel",
    "manifolds_kernel",
    "noise_factors_kernel",
    "pursue_kernel",
    "shares_kernel",
}
# A correctly rounded float division on AMD: so many fused steps, by LLVM's expansion.
AMD_STEPS_OF_DIVISION = 5

Kernel = dict[str, Any]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[Kernel]:
    """All variants for sm_90, one of every kernel for the others: a minute or two of two cores."""
    place = tmp_path_factory.mktemp("compiled")
    done = run_script("compile_kernels.py", place, "--brief", "--json", "kernels.json")
    assert done.returncode == 0, done.stderr
    found: list[Kernel] = json.loads((place / "kernels.json").read_text())["kernels"]
    return found


def assert_none(kernels: list[Kernel], is_wrong: Callable[[Kernel], object]) -> None:
    """No kernel is wrong; says which are, and what was found in them."""
    wrong = {
        f"{kernel['kernel']} ({kernel['variant']}) on {kernel['target']}": found
        for kernel in kernels
        if (found := is_wrong(kernel))
    }
    assert not wrong


def matching(kernel: Kernel, pattern: str) -> dict[str, int]:
    """The operations as they are written whose names match, and how often they occur."""
    return {name: n for name, n in kernel["written"].items() if re.search(pattern, name)}


def fused(kernel: Kernel) -> int:
    """Operations on floats that multiply and add, but for those within divisions."""
    if kernel["target"] != "gfx942":
        return sum(matching(kernel, r"^fma\.").values())
    # The integer division of gfx942 has two with constants; no kernel's floats have any.
    found = matching(kernel, r"^v_(pk_)?(fma|fmac|mad|mac)_(f32|f64)")
    steps = sum(n * (2 if "_pk_" in name else 1) for name, n in found.items())
    return steps - AMD_STEPS_OF_DIVISION * sum(matching(kernel, "^v_div_fixup_").values())


def test_every_kernel_that_is_launched_is_compiled_for_every_target(kernels: list[Kernel]) -> None:
    sources = Path(launch.__file__).parent.rglob("*.py")
    launched = {
        name for path in sources for name in re.findall(r"\blaunch\(\s*(\w+),", path.read_text())
    }
    assert len(launched) > 5
    for target in TARGETS:
        assert {k["kernel"] for k in kernels if k["target"] == target} == launched
    variants = {(k["kernel"], k["variant"], k["target"]) for k in kernels}
    assert len(variants) == len(kernels)
    assert {target for _, _, target in variants} == TARGETS


def test_registers_are_not_spilled_but_for_a_few(kernels: list[Kernel]) -> None:
    def spills(kernel: Kernel) -> int:
        if kernel["target"] == "gfx942":
            # SGPRs go to lanes of VGPRs and not to memory.
            return int(kernel["spills"]["VGPRs"])
        return max(0, int(kernel["spills"]["bytes stored"]) - MOST_STORED)

    assert_none(kernels, spills)


def test_shared_memory_is_what_every_card_has(kernels: list[Kernel]) -> None:
    assert_none(kernels, lambda kernel: max(0, kernel["shared"] - MOST_SHARED))


def test_products_and_sums_are_rounded_apart(kernels: list[Kernel]) -> None:
    # What the gather itself has, which the stream writes so.
    gather = {
        k["target"]: fused(k)
        for k in kernels
        if k["kernel"] == "gather_kernel" and k["variant"] == "exact, float32"
    }
    assert gather["sm_80"] == gather["sm_90"] > 0

    def contracted(kernel: Kernel) -> int:
        if kernel["kernel"] in UNFUSED:
            return fused(kernel)
        if kernel["kernel"] == "sample_kernel":
            of_its_gather = gather[kernel["target"]] if kernel["constants"]["HIDDEN"] else 0
            return fused(kernel) - of_its_gather
        if kernel["kernel"] == "noise_kernel":
            # One for a factor and one for the deviation, of each of a lane's eight components; what
            # goes through the factors may be unrolled.
            return fused(kernel) % 8 if kernel["target"] == "gfx942" else fused(kernel) - 16
        return 0

    assert_none(kernels, contracted)
    # The sampler's normals are cubics without literals: none has these either.
    sampler = [k for k in kernels if k["kernel"] in ("factors_kernel", "sample_kernel")]
    assert_none(sampler, lambda kernel: matching(kernel, "^v_(fmaak|fmamk|madak|madmk)"))


def test_the_assembler_fuses_nothing_of_its_own(kernels: list[Kernel]) -> None:
    def invented(kernel: Kernel) -> dict[str, int]:
        # Divisions are expanded into fused steps.
        if kernel["target"] == "gfx942" or matching(kernel, r"^(fma|div)\."):
            return {}
        return {name: n for name, n in kernel["machine"].items() if re.match("[FD]FMA", name)}

    assert_none(kernels, invented)


def test_divisions_are_correctly_rounded_and_nothing_is_flushed(kernels: list[Kernel]) -> None:
    nvidia = [k for k in kernels if k["target"] != "gfx942"]
    assert any(matching(k, r"^div\.rn\.f32$") for k in nvidia)
    assert_none(nvidia, lambda kernel: matching(kernel, r"^(div\.(full|approx)|rcp|ex2|lg2)"))
    assert_none(
        nvidia, lambda k: matching(k, r"^div\..*f\d\d") and not matching(k, r"^div\.rn\.f\d\d$")
    )
    # A root is taken of the factors' norm alone, for the screen's bound, whose margin covers it.
    assert_none(
        nvidia,
        lambda k: (
            matching(k, r"\.ftz")
            if k["kernel"] != "factors_kernel"
            else matching(k, r"^(?!sqrt\.).*\.ftz")
        ),
    )
    amd = [k for k in kernels if k["target"] == "gfx942"]
    fixups = {k["kernel"] for k in amd if matching(k, "^v_div_fixup_")}
    assert fixups == {"sample_kernel", "forest_dense_kernel", "forest_csr_kernel"}


def test_a_programs_own_lists_are_not_read_through_the_cache_for_constants(
    kernels: list[Kernel],
) -> None:
    # A program reads what it has written itself.
    own = ("sample_kernel", "drop_zeros_kernel", "forest_dense_kernel", "forest_csr_kernel")
    written = [k for k in kernels if k["kernel"] in own and k["target"] != "gfx942"]
    assert any(matching(k, r"^ld\.global") for k in written)
    assert_none(written, lambda kernel: matching(kernel, r"^ld\.global\.nc"))
