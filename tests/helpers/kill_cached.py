"""Processes that are killed at every other step of keeping a world in a cache.

    python kill_cached.py DIRECTORY

works in DIRECTORY and prints, as JSON, after how many deaths the world was there and after how many
it was built again.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import warnings
from collections import Counter
from pathlib import Path

import torch
from kill_saves import killed_at, watched

import synthkern as synthetic


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    cfg = synthetic.SyntheticModelConfig(
        12, 4, orthogonalization=synthetic.OrthogonalizationConfig(num_steps=1), seed=0
    )
    model = synthetic.SyntheticModel(cfg)
    wanted, parts = model.sample(5, seed=1), model._parts()
    os.fsync = watched(lambda _: None)
    cache = synthetic.WorldCache(Path(sys.argv[1]) / "worlds")
    met: Counter[str] = Counter()
    builds: list[int] = []

    def build() -> object:
        builds.append(1)
        return parts

    for point in itertools.count(1, 2):
        shutil.rmtree(cache.folder, ignore_errors=True)
        killed = killed_at(point, lambda: cache.parts(cfg, lambda: parts))
        builds.clear()
        # Neither a warning, which would be an error, nor a torn file.
        found = cache.parts(cfg, build)
        met["built again" if builds else "kept"] += 1
        hidden = synthetic.SyntheticModel(
            cfg, found.feature_dict, found.activation_generator, found.hierarchy
        ).sample(5, seed=1)
        assert torch.equal(hidden, wanted), point
        (world,) = cache.worlds()
        assert world.build_seconds is not None, point
        assert cache.parts(cfg, build) is not parts, point
        assert len(builds) <= 1, point
        if not killed:
            break
        assert cache.clear() == []
        assert list(cache.folder.iterdir()) == [], point
    print(json.dumps(met))


if __name__ == "__main__":
    main()
