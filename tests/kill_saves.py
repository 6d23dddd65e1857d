"""Saves that are killed at every step, in processes of their own.

    python kill_saves.py DIRECTORY (exchange | rename) (over | new)

works in DIRECTORY and prints how many saves were killed and what they left, as JSON. "rename" is
a system that cannot exchange two names; "new" saves where nothing is yet.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from directories import Contents, add_foreign_files, contents, forked
from saved_worlds import load, world

from synthkern import staged_directory


def killed_at(point: int, save: Callable[[], None]) -> bool:
    """Save in a process that is killed when it is about to do something for the n-th time."""
    left = point

    def count(event: str, _: Any) -> None:
        nonlocal left
        if event.partition(".")[0] in ("open", "os", "shutil", "fcntl", "kill_saves"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def watched_save() -> None:
        sys.addaudithook(count)
        save()

    status = os.waitpid(forked(watched_save), 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status != 0


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that Python announces to nobody, with an announcement before and after."""

    def call(*arguments: Any) -> Any:
        sys.audit("kill_saves.before")
        result = function(*arguments)
        sys.audit("kill_saves.after")
        return result

    return call


def main() -> None:
    place, how, where = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    old, new = world(), world(seed=8, hierarchy=None)
    pristine, target = place / "pristine", place / "work" / "model"
    hidden = {}
    expected: dict[str, Contents | None] = {"old": None}
    if where == "over":
        old.save(pristine)
        add_foreign_files(pristine)
        expected["old"] = contents(pristine)
        hidden["old"] = old.sample(5, seed=1)
    (place / "finished").mkdir()
    if where == "over":
        add_foreign_files(place / "finished")
    new.save(place / "finished")
    expected["new"] = contents(place / "finished")
    hidden["new"] = new.sample(5, seed=1)

    # What a killed process has written, the system keeps: no need to wait for the disk.
    os.fsync = watched(lambda _: None)
    exchange = staged_directory.exchange_names if how == "exchange" else lambda *_: False
    staged_directory.exchange_names = watched(exchange)

    left: Counter[str] = Counter()
    for point in itertools.count(1):
        shutil.rmtree(target.parent, ignore_errors=True)
        target.parent.mkdir()
        if where == "over":
            shutil.copytree(pristine, target, symlinks=True)
        killed = killed_at(point, lambda: new.save(target))
        found = contents(target)
        beside = [path for path in target.parent.iterdir() if path != target]
        states = [name for name, wanted in expected.items() if found == wanted]
        if not states and how == "rename" and found is None:
            # Between the two renames: the old one is whole, beside.
            (aside,) = (path for path in beside if path.suffix == ".aside")
            assert contents(aside) == expected["old"]
            states = ["aside"]
        assert len(states) == 1, (point, found)
        left[states[0]] += 1
        if found is not None:
            assert torch.equal(load(target).sample(5, seed=1), hidden[states[0]])
        if not killed:
            assert states == ["new"]
            assert beside == []
            break
        left["beside"] += bool(beside)
        # The next save goes on as if nothing had been.
        new.save(target)
        assert contents(target) == expected["new"], point
        assert list(target.parent.iterdir()) == [target], point
    print(json.dumps({"points": point, **left}))


if __name__ == "__main__":
    main()
