"""The commands that say what a world has, and which have a name."""

from __future__ import annotations

import argparse
from typing import Any

from synthkern._table import text_table
from synthkern.cli.arguments import add_cache, cache_of, world_or_source
from synthkern.model.description import describe_world
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.model.world_key import is_calibrated
from synthkern.world.config import SyntheticModelConfig
from synthkern.world.presets import ABOUT, PRESETS


def add_world_commands(commands: Any) -> None:
    """Add "describe" and "presets" to a parser's commands."""
    describe = commands.add_parser(
        "describe",
        help="print a world's rates, level by level",
        description="Print what a world asks for and what it has: rates, L0, magnitudes and "
        "exclusivity at every level of its trees, and the fingerprints that it is known by.",
    )
    describe.add_argument(
        "world",
        metavar="WORLD",
        help="a preset, a config's JSON file, a saved model's directory or REPO[:SUBFOLDER]",
    )
    describe.add_argument(
        "--quick",
        action="store_true",
        help="build no feature vectors of a preset or a config, and leave out the world's own "
        "fingerprint, which is of these too",
    )
    add_cache(describe)
    describe.set_defaults(run=_describe)

    presets = commands.add_parser("presets", help="list the worlds that have a name")
    presets.set_defaults(run=_presets)


def _describe(options: argparse.Namespace) -> int:
    world, cache = world_or_source(options.world), cache_of(options)
    # Without the vectors what is left is quick, unless rates are calibrated; and without a seed a
    # world that is built is none that anybody sees again.
    if (
        isinstance(world, SyntheticModelConfig)
        and (options.quick or world.seed is None)
        and (cache is None or not is_calibrated(world))
    ):
        print(describe_world(world))
    else:
        print(SyntheticModel.load_from_source(world, cache=cache).describe())
    return 0


def _presets(options: argparse.Namespace) -> int:
    del options
    rows = []
    for name in PRESETS:
        cfg = SyntheticModelConfig.preset(name)
        sizes = f"{cfg.num_features:,} features", f"{cfg.hidden_dim} dimensions"
        rows.append((name, *sizes, ABOUT[name]))
    print("\n".join(text_table(rows, "<>><")))
    return 0
