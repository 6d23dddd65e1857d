"""The command that writes samples of a world to disk."""

from __future__ import annotations

import argparse
from typing import Any

from synthkern.cli.arguments import add_cache, as_count, cache_of, load_world
from synthkern.data.shards import WHAT, SampleJob, write_samples
from synthkern.storage.paths import as_path
from synthkern.world.presets import PRESETS


def add_sample_command(commands: Any) -> None:
    """Add "sample" to a parser's commands."""
    sample = commands.add_parser(
        "sample",
        help="write samples of a world to disk",
        description="Write samples as safetensors shards with a manifest and the model itself. "
        "Run again after an interruption, it continues and ends with the same bytes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    sample.add_argument(
        "world", metavar="WORLD", help=f"a preset ({', '.join(PRESETS)}) or a config's JSON file"
    )
    sample.add_argument("--samples", type=as_count, required=True, help="number of samples")
    sample.add_argument("--seed", type=as_count, required=True, help="of the samples' stream")
    sample.add_argument("--out", required=True, metavar="DIR", help="where to write")
    sample.add_argument("--batch-size", type=as_count, default=16384, help="samples in a shard")
    sample.add_argument("--what", choices=WHAT, default="hidden", help="what a shard holds")
    sample.add_argument("--start", type=as_count, default=0, help="index of the first sample")
    add_cache(sample)
    sample.set_defaults(run=_sample)


def _sample(options: argparse.Namespace) -> int:
    out = as_path("--out", options.out)
    job = SampleJob(
        cfg=load_world(options.world),
        samples=options.samples,
        seed=options.seed,
        start=options.start,
        batch_size=options.batch_size,
        what=options.what,
    )
    written = write_samples(job, out, cache=cache_of(options))
    print(f"{written:,} samples written to {out}, {job.samples - written:,} were there")
    return 0
