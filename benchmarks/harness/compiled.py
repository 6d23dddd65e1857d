"""Kernels compiled ahead of time, for GPUs that need not be there, and what the code asks for."""

from __future__ import annotations

import importlib
import re
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends import nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler.compiler import make_backend

from synthkern.engine.triton.launch import Launch

#: What is compiled for: Ampere's and Hopper's data-centre cards, and AMD's MI300.
TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}

_TOOLS = Path(nvidia.__file__).parent / "bin"
_TYPES = {
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.int16: "*i16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.uint8: "*u8",
    torch.uint64: "*u64",
}


@dataclass(frozen=True)
class Job:
    """A kernel to compile: what Triton makes of a launch's arguments on a target.

    Attributes:
        module, kernel: where the kernel is, and its name.
        target: a name of TARGETS.
        signature: types of all arguments; "constexpr" where the value is compiled in.
        constants: those values.
        attributes: what is known of the other arguments, such as that 16 divides them.
        options: of the compiler.
    """

    module: str
    kernel: str
    target: str
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[tuple[int], Any], ...]
    attributes: tuple[tuple[tuple[int], Any], ...]
    options: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Compiled:
    """What the machine code of a kernel asks for.

    Attributes:
        kernel, target: as in the job.
        constants: values that are compiled in, by the arguments' names.
        registers: of a thread; on AMD the VGPRs.
        spills: on NVIDIA the bytes that the code's instructions store and load of spilled
            registers, in a thread, on AMD how many VGPRs and SGPRs are spilled.
        shared: bytes of shared memory of a program.
        barriers: instructions that wait for all warps of a program.
        seconds: what compiling took.
        written: operations of the PTX, by their full names, and how often they occur; on AMD
            of the machine code.
        machine: operations of the machine code.
    """

    kernel: str
    target: str
    constants: dict[str, Any]
    registers: int
    spills: dict[str, int]
    shared: int
    barriers: int
    seconds: float
    written: dict[str, int]
    machine: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return asdict(self)


def job_of(launch: Launch, target: str) -> Job:
    """What compiling a noted launch takes: Triton's own rules of what to specialise."""
    kernel, backend = launch.kernel, make_backend(TARGETS[target])
    names = kernel.arg_names
    values = dict(zip(names, launch.arguments, strict=False))
    values |= {name: value for name, value in launch.options.items() if name in names}
    signature, constants, attributes = [], [], []
    for place, parameter in enumerate(kernel.params):
        value, known = values[parameter.name], ""
        if parameter.is_constexpr or value is None:
            kind = "constexpr"
        elif isinstance(value, torch.Tensor):
            kind, known = _TYPES[value.dtype], backend.get_tensor_specialization(value, align=True)
        elif isinstance(value, float):
            kind = "fp32"
        elif parameter.do_not_specialize:
            kind = _integer(value)
        elif value == 1:
            kind = "constexpr"
        else:
            kind, known = _integer(value), backend.get_int_specialization(value, align=True)
        signature.append((parameter.name, kind))
        if kind == "constexpr":
            constants.append(((place,), value))
        elif known:
            attributes.append(((place,), tuple(map(tuple, backend.parse_attr(known)))))
    options = tuple((name, value) for name, value in launch.options.items() if name not in names)
    function = kernel.fn
    return Job(
        function.__module__,
        function.__name__,
        target,
        tuple(signature),
        tuple(constants),
        tuple(attributes),
        options,
    )


def _integer(value: int) -> str:
    return "i32" if -(2**31) <= value < 2**31 else "i64"


def compile_job(job: Job) -> Compiled:
    """Compile a kernel and read what its code asks for."""
    source = ASTSource(
        fn=getattr(importlib.import_module(job.module), job.kernel),
        signature=dict(job.signature),
        constexprs=dict(job.constants),
        attrs={place: [list(known) for known in all_known] for place, all_known in job.attributes},
    )
    begin = time.perf_counter()
    try:
        code = triton.compile(source, target=TARGETS[job.target], options=dict(job.options))
    except Exception as error:
        raise RuntimeError(f"{job.kernel} does not compile for {job.target}: {job}") from error
    seconds = time.perf_counter() - begin
    constants = {job.signature[place][0]: value for (place,), value in job.constants}
    read = _of_nvidia if TARGETS[job.target].backend == "cuda" else _of_amd
    return Compiled(job.kernel, job.target, constants, seconds=seconds, **read(code))


def _of_nvidia(code: Any) -> dict[str, Any]:
    # Read from the machine code itself: whichever ptxas Triton chose, and with which options.
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code.asm["cubin"])
        file.flush()
        usage = _tool("cuobjdump", "-res-usage", file.name)
        listing = _tool("cuobjdump", "-sass", file.name)
    machine = _operations(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)", listing)
    return {
        "registers": int(re.findall(r"REG:(\d+)", usage)[0]),
        "spills": {
            "bytes stored": _local_bytes(machine, "STL"),
            "bytes loaded": _local_bytes(machine, "LDL"),
        },
        "shared": code.metadata.shared,
        "barriers": sum(n for name, n in machine.items() if name.split(".")[0] == "BAR"),
        "written": _operations(r"^\s*(?:@!?%\w+\s+)?([a-z]\w*(?:\.[\w:]+)*)\s", code.asm["ptx"]),
        "machine": machine,
    }


def _local_bytes(machine: dict[str, int], operation: str) -> int:
    """Bytes that operations on local memory move, which nothing but spills is in."""
    total = 0
    for name, times in machine.items():
        first, *more = name.split(".")
        if first == operation:
            bits = [int(part.lstrip("US")) for part in more if part.lstrip("US").isdigit()]
            total += times * (bits[0] // 8 if bits else 4)
    return total


def _of_amd(code: Any) -> dict[str, Any]:
    text = code.asm["amdgcn"]
    machine = _operations(r"^\t([a-z]\w*)\b", text)

    def noted(name: str) -> int:
        return int(re.findall(rf"\.{name}:\s+(\d+)", text)[0])

    return {
        "registers": noted("vgpr_count"),
        "spills": {"VGPRs": noted("vgpr_spill_count"), "SGPRs": noted("sgpr_spill_count")},
        "shared": code.metadata.shared,
        "barriers": machine.get("s_barrier", 0),
        "written": machine,
        "machine": machine,
    }


def _operations(pattern: str, text: str) -> dict[str, int]:
    return dict(sorted(Counter(re.findall(pattern, text, re.MULTILINE)).items()))


def _tool(name: str, *arguments: str) -> str:
    command = [str(_TOOLS / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def versions() -> dict[str, str]:
    """Versions of Triton and of the assemblers that it has for NVIDIA; AMD's is in Triton."""
    assemblers = sorted(path.name for path in _TOOLS.glob("ptxas*"))
    found = {name: re.findall(r"V(\d[\d.]*)", _tool(name, "--version")) for name in assemblers}
    return {"triton": triton.__version__, **{name: ", ".join(v) for name, v in found.items()}}
