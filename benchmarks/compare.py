"""Compare synthkern with SAELens and with bare torch, in one run.

    python benchmarks/compare.py
    python benchmarks/compare.py --only generation,memory --json figures.json --repeats 9

Every section checks results first, then times the systems turn by turn (A B A B ...), and prints
medians with their quartiles and which of the project's requirements are met. Nothing fails for
being slow. ``pip install 'synthkern[peer]'`` adds the peer; without it those lines are left out.
With the peer, three rounds take six minutes on two idle cores, almost all of it the peer's, and
8 GiB of memory.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import command_line, hardware
from harness.report import Section
from harness.timing import Settings
from sections import (
    beside_load,
    evaluation,
    floors,
    generation,
    hierarchy,
    memory,
    orthogonalization,
    persistence,
    prefetch,
    rates,
    sae_steps,
    toys,
    training,
)

SECTIONS: dict[str, Callable[[Settings], Section]] = {
    "beside_load": beside_load.run,
    "generation": generation.run,
    "hierarchy": hierarchy.run,
    "orthogonalization": orthogonalization.run,
    "memory": memory.run,
    "persistence": persistence.run,
    "rates": rates.run,
    "prefetch": prefetch.run,
    "evaluation": evaluation.run,
    "toys": toys.run,
    "floors": floors.run,
    "sae_steps": sae_steps.run,
    "training": training.run,
}


def main() -> None:
    """Run the sections that the command line names."""
    args = _parse()
    settings = Settings(args.repeats, args.budget)
    machine = hardware.describe()
    print("\n".join(f"{key}: {value}" for key, value in machine.items()), flush=True)
    report: dict[str, Any] = {
        "machine": machine,
        "settings": {"repeats": args.repeats, "budget": args.budget},
        "sections": {},
    }
    sections = []
    for name in args.only:
        section = SECTIONS[name](settings)
        print(f"\n{section}", flush=True)
        sections.append(section)
        report["sections"][name] = section.to_dict()
        if args.json is not None:
            args.json.write_text(json.dumps(report, indent=2) + "\n")
    print("\n== requirements")
    print("\n".join(str(line) for section in sections for line in section.requirements))


def _parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    command_line.add_only(parser, SECTIONS, "sections")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the numbers")
    parser.add_argument("--repeats", type=_positive, default=5, help="rounds (default: 5)")
    parser.add_argument(
        "--budget",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="a case that has used this much has no further rounds (default: 60)",
    )
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


if __name__ == "__main__":
    main()
