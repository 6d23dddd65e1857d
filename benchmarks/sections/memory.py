"""Peak resident memory, each case in a process of its own."""

from __future__ import annotations

from harness import memory_case
from harness.report import Section, Table, mib
from harness.timing import Settings
from tqdm.auto import tqdm

_CASES = ("import-torch", "import", "million", "wide-sample", "wide-features")
_GIB = float(2**30)
_WIDE_FACTOR = 3.0


def run(settings: Settings) -> Section:
    """Measure every case once: peaks hardly vary, so that ``settings`` has no say."""
    section = Section("memory")
    for name in tqdm(_CASES, desc="memory", leave=False, disable=None):
        section.data[name] = memory_case.measure(name)
    baseline = section.data["import"]["peak"]
    rows = [
        ("python and torch", "peak", mib(section.data["import-torch"]["peak"])),
        ("python, torch and synthkern", "peak", mib(baseline)),
    ]
    rows += _million(section, baseline) + _wide(section)
    columns = ("case", "what", "size")
    section.tables.append(Table("resident memory", columns, rows))
    return section


def _million(section: Section, baseline: int) -> list[tuple[str, str, str]]:
    sizes = section.data["million"]
    beyond = sizes["peak"] - sizes["dictionary"]
    text = "1,048,576 features, building and sample(1024): peak beyond the dictionary"
    section.require_at_most(text, beyond / _GIB, 1.0, " GiB")
    case = "1,048,576 features, 1,024 samples"
    return [
        (case, "dictionary", mib(sizes["dictionary"])),
        (case, "resident once built", mib(sizes["built"])),
        (case, "peak of building", mib(sizes["build_peak"])),
        (case, "peak", mib(sizes["peak"])),
        (case, "peak beyond the dictionary", mib(beyond)),
        (case, "the same beyond the imports too", mib(beyond - baseline)),
    ]


def _wide(section: Section) -> list[tuple[str, str, str]]:
    rows = []
    for name, call in (
        ("wide-sample", "sample(65536)"),
        ("wide-features", "sample_with_features(65536, sparse=True)"),
    ):
        sizes = section.data[name]
        output = sizes["csr"] + sizes["hidden"]
        rows += [
            (call, "CSR of the batch", mib(sizes["csr"])),
            (call, "hidden of the batch", mib(sizes["hidden"])),
            (call, "peak beyond the built model", mib(sizes["growth"])),
        ]
        if not sizes["peak_was_reset"]:
            section.notes.append(
                f"{call}: this system cannot reset a peak, so that it may be one of building"
            )
        text = f"16,384 features, {call}: peak beyond the model, in sizes of CSR + hidden"
        section.require_at_most(text, sizes["growth"] / output, _WIDE_FACTOR)
    return rows
