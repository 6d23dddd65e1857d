"""The C++ core under the sanitizers for addresses, undefined behaviour and threads.

    python benchmarks/sanitize.py
    python benchmarks/sanitize.py --only address

Builds the core with each, as setup.py does, in a temporary folder, and runs the hostile and the
ordinary calls of core_calls.py there. Prints a table and every finding, and ends with status 1
where there is one. It needs GCC with its sanitizers' libraries, and takes some minutes.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.report import Table

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Sanitizer:
    """How a build is run.

    Attributes:
        library: what must be loaded before Python's own libraries.
        options: environment variable and its value.
        arguments: of core_calls.py. Memory that nobody has ends the process in some allocators.
    """

    library: str
    options: tuple[str, str]
    arguments: tuple[str, ...] = ()


SANITIZERS = {
    "address": Sanitizer(
        "libasan.so",
        ("ASAN_OPTIONS", "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=8192"),
        ("--no-huge",),
    ),
    "undefined": Sanitizer("libubsan.so", ("UBSAN_OPTIONS", "print_stacktrace=1")),
    "thread": Sanitizer(
        "libtsan.so",
        ("TSAN_OPTIONS", "allocator_may_return_null=1:halt_on_error=0"),
        ("--no-huge", "--rounds", "20"),
    ),
}
_FINDING = re.compile(
    r"^finding: |runtime error:|ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|FATAL: \w+Sanitizer"
)


def build(name: str, folder: Path) -> Path:
    """The core with a sanitizer, and without Python's own flag that defines signed overflow."""
    flags = f"-fsanitize={name} -fno-wrapv -g -fno-omit-frame-pointer"
    command = [sys.executable, "setup.py", "-q", "build_ext"]
    command += ["--build-lib", str(folder / "lib"), "--build-temp", str(folder / "temp")]
    environment = {**os.environ, "CC": "gcc", "CXX": "g++", "CFLAGS": flags}
    environment["LDFLAGS"] = f"-fsanitize={name}"
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"the core does not build with -fsanitize={name}:\n{done.stderr}")
    (core,) = (folder / "lib").rglob("_core*.so")
    return core


def library(name: str) -> str:
    command = ["gcc", f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def run(name: str, core: Path, folder: Path) -> tuple[str, list[str]]:
    """The number of calls, and what was found."""
    sanitizer = SANITIZERS[name]
    progress = folder / "progress"
    command = [sys.executable, str(Path(__file__).with_name("core_calls.py")), str(core)]
    command += ["--progress", str(progress), *sanitizer.arguments]
    if name == "thread":  # its shadow memory has fixed places
        command = ["setarch", platform.machine(), "-R", *command]
    environment = dict(os.environ)
    # The C++ library too, so that exceptions are seen from the start.
    environment["LD_PRELOAD"] = f"{library(sanitizer.library)} {library('libstdc++.so.6')}"
    environment[sanitizer.options[0]] = sanitizer.options[1]
    environment["OPENBLAS_NUM_THREADS"] = "1"
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace"
    )
    print(done.stderr, end="", file=sys.stderr)
    findings = [line for line in done.stderr.splitlines() if _FINDING.search(line)]
    if done.returncode != 0 and (not findings or not done.stdout):
        at = progress.read_text().strip() if progress.exists() else "the start"
        findings.append(f"ended with status {done.returncode} at: {at}")
    return done.stdout.strip() or "not all", findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=SANITIZERS, action="append", help="run this one")
    names = parser.parse_args().only or list(SANITIZERS)
    rows, findings = [], []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            calls, found = run(name, build(name, Path(folder)), Path(folder))
        rows.append([name, calls, str(len(found))])
        findings += [f"{name}: {line}" for line in found]
    print(Table("The C++ core under sanitizers", ["sanitizer", "calls", "findings"], rows))
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
