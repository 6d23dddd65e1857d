"""Processes that save models to one directory at the same time, while others load what is there.

    python save_at_once.py DIRECTORY

prints how many loads met which of the models, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import torch
from directories import add_foreign_files, forked
from saved_worlds import load, world

SAVERS, LOADERS, SAVES, LOADS = 3, 2, 25, 40


def main() -> None:
    target = Path(sys.argv[1]) / "model"
    torch.set_num_threads(1)
    # Of other trees each, so that files of two of them would not fit together.
    models = [world(seed=1, hierarchy=None)] + [world(seed=seed) for seed in range(2, SAVERS + 1)]
    hidden = [model.sample(5, seed=1) for model in models]
    models[0].save(target)
    add_foreign_files(target)
    os.fsync = lambda _: None

    def save(number: int) -> None:
        for _ in range(SAVES):
            models[number].save(target)

    def look(log: Path) -> None:
        met: Counter[int] = Counter()
        for _ in range(LOADS):
            drawn = load(target).sample(5, seed=1)
            (number,) = (k for k, wanted in enumerate(hidden) if torch.equal(drawn, wanted))
            met[number] += 1
        log.write_text(json.dumps(met))

    logs = [target.with_name(f"log-{k}") for k in range(LOADERS)]
    children = [forked(lambda k=k: save(k)) for k in range(SAVERS)]
    children += [forked(lambda log=log: look(log)) for log in logs]
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    models[0].save(target)
    assert sorted(path.name for path in target.parent.iterdir()) == sorted(
        ["model", *(log.name for log in logs)]
    )
    assert (target / "notes.txt").read_text() == "mine"
    assert (target / "plots" / "old" / "a.png").read_bytes() == b"png"
    met: Counter[str] = Counter()
    for log in logs:
        met.update(json.loads(log.read_text()))
    print(json.dumps(met))


if __name__ == "__main__":
    main()
