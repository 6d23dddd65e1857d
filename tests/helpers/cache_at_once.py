"""Processes that use one cache at the same time.

    python cache_at_once.py DIRECTORY

prints how many of those that wanted one world built it, and how many loads there were while others
cleared the cache and kept removing what was too much, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

import torch
from directories import forked

import synthkern as synthetic

TOGETHER, LOADERS, LOADS = 4, 3, 10


def config(seed: int) -> synthetic.SyntheticModelConfig:
    apart = synthetic.OrthogonalizationConfig(num_steps=1)
    return synthetic.SyntheticModelConfig(12, 4, orthogonalization=apart, seed=seed)


def wait_for(children: list[int]) -> None:
    for child in children:
        assert os.waitpid(child, 0)[1] == 0


def main() -> None:
    place = Path(sys.argv[1])
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    models = [synthetic.SyntheticModel(config(seed)) for seed in range(LOADERS)]
    wanted = [model.sample(5, seed=1) for model in models]
    cache = synthetic.WorldCache(place / "worlds")
    log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ready, go = os.pipe()

    def load(number: int) -> None:
        def build() -> object:
            os.write(log, b"%d\n" % number)
            return models[number]._parts()

        found = cache.parts(config(number), build)
        hidden = synthetic.SyntheticModel(
            config(number), found.feature_dict, found.activation_generator, found.hierarchy
        ).sample(5, seed=1)
        assert torch.equal(hidden, wanted[number])

    def load_together() -> None:
        os.close(go)
        os.read(ready, 1)  # until the other end is closed
        load(0)

    children = [forked(load_together) for _ in range(TOGETHER)]
    os.close(go)
    wait_for(children)
    together = len((place / "log").read_text().split())

    os.fsync = lambda _: None
    # Room for two of three.
    cache = synthetic.WorldCache(place / "worlds", cache.worlds()[0].size * 5 // 2)

    def load_often(first: int) -> None:
        for turn in range(LOADS):
            load((first + turn) % LOADERS)

    def clear_often() -> None:
        for _ in range(LOADS):
            cache.clear()

    wait_for([*(forked(lambda k=k: load_often(k)) for k in range(LOADERS)), forked(clear_often)])
    assert sum(world.size for world in cache.worlds()) <= cache.max_size * 2
    cache.clear()
    assert list(cache.folder.iterdir()) == []
    print(json.dumps({"together": together, "loads": LOADERS * LOADS}))


if __name__ == "__main__":
    main()
