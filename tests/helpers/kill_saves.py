"""Saves that are killed at every step, in processes of their own.

    python kill_saves.py DIRECTORY (over | new)

works in DIRECTORY and prints how many saves were killed and what they left, as JSON: "new" saves
where nothing is yet.
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
    place, where = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    old, new = world(), world(seed=8, hierarchy=None)
    pristine, target = place / "pristine", place / "work" / "model"
    hidden = {}
    expected: dict[str, Contents | None] = {"old": {}}
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

    left: Counter[str] = Counter()
    for point in itertools.count(1):
        shutil.rmtree(target.parent, ignore_errors=True)
        target.parent.mkdir()
        if where == "over":
            shutil.copytree(pristine, target, symlinks=True)
        killed = killed_at(point, lambda: new.save(target))
        raw = contents(target) or {}
        try:
            drawn = load(target).sample(5, seed=1)
        except FileNotFoundError:
            assert where == "new", point
            drawn = None
        # Who reads has finished what was to be finished; hidden files are not anybody's yet.
        found = contents(target) or {}
        hidden_ones = {name for name in found if name.startswith(".synthkern.")}
        seen = {name: what for name, what in found.items() if name not in hidden_ones}
        states = [name for name, wanted in expected.items() if seen == wanted]
        assert len(states) == 1, (point, found)
        left[states[0]] += 1
        left["finished"] += raw != found
        if drawn is not None:
            assert torch.equal(drawn, hidden[states[0]]), point
        if not killed:
            assert states == ["new"]
            assert raw == found
            assert not hidden_ones
            break
        left["leftovers"] += bool(hidden_ones)
        # The next save goes on as if nothing had been.
        new.save(target)
        assert contents(target) == expected["new"], point
        assert list(target.parent.iterdir()) == [target], point
    print(json.dumps({"points": point, **left}))


if __name__ == "__main__":
    main()
