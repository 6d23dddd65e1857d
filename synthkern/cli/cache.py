"""The command that shows and clears the worlds that were built and kept."""

from __future__ import annotations

import argparse
import time
from typing import Any

from synthkern._table import text_table
from synthkern.model.world_cache import SIZE_VARIABLE, CachedWorld, WorldCache
from synthkern.storage.cache_folder import VARIABLE
from synthkern.storage.sizes import size_text

_TITLES = ("world", "key", "size", "used", "took")

#: Digits of a key that are shown.
_SHOWN = 12

_AGES = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def add_cache_command(commands: Any) -> None:
    """Add "cache" to a parser's commands."""
    cache = commands.add_parser(
        "cache",
        help="list or clear the worlds that were built and kept",
        description="Worlds that take long to build are kept for later commands, in "
        f"${VARIABLE}, else in synthkern in $XDG_CACHE_HOME or ~/.cache, up to "
        f"${SIZE_VARIABLE} (10GiB; 0 switches it off): those that were not used for longest "
        "go first.",
    )
    cache.set_defaults(run=_list)
    actions = cache.add_subparsers(metavar="ACTION")
    listed = actions.add_parser("list", help="print the worlds; what is done without an action")
    listed.set_defaults(run=_list)
    where = actions.add_parser("where", help="print the folder")
    where.set_defaults(run=_where)
    clear = actions.add_parser("clear", help="remove the worlds, or those that are named")
    clear.add_argument(
        "worlds", nargs="*", metavar="WORLD", help="a name or a key, or how it begins, as listed"
    )
    clear.set_defaults(run=_clear)


def _list(options: argparse.Namespace) -> int:
    del options
    cache = WorldCache()
    worlds, now = cache.worlds(), time.time()
    if worlds:
        print("\n".join(text_table([_TITLES, *(_cells(world, now) for world in worlds)], "<<")))
    total = size_text(sum(world.size for world in worlds))
    count = "1 world" if len(worlds) == 1 else f"{len(worlds)} worlds"
    print(f"{count}, {total} of {size_text(cache.max_size)}, in {cache.folder}")
    return 0


def _where(options: argparse.Namespace) -> int:
    del options
    print(WorldCache().folder)
    return 0


def _clear(options: argparse.Namespace) -> int:
    cache = WorldCache()
    if not options.worlds:
        before, left = sum(world.size for world in cache.worlds()), cache.clear()
    else:
        chosen = _chosen(cache.worlds(), options.worlds)
        before = sum(world.size for world in chosen)
        left = [world for world in chosen if not cache.remove(world)]
    print(f"{size_text(before - sum(world.size for world in left))} removed from {cache.folder}")
    for world in left:
        print(f"{world.key[:_SHOWN]} stays, as a process is building it")
    return 1 if left else 0


def _chosen(worlds: list[CachedWorld], words: list[str]) -> list[CachedWorld]:
    """The worlds of these names, or whose keys begin so."""
    found: dict[str, CachedWorld] = {}
    for word in words:
        its = [world for world in worlds if world.name == word or world.key.startswith(word)]
        if not its:
            known = "; ".join(f"{world.name} {world.key[:_SHOWN]}" for world in worlds)
            raise ValueError(f"WORLD must be one of {known or 'none'}, got {word!r}")
        found |= {world.key: world for world in its}
    return list(found.values())


def _cells(world: CachedWorld, now: float) -> tuple[str, ...]:
    took = "" if world.build_seconds is None else f"{world.build_seconds:.1f} s"
    return world.name, world.key[:_SHOWN], size_text(world.size), _age(now - world.used), took


def _age(seconds: float) -> str:
    """How long ago, in the largest unit of which there is one."""
    for unit, size in _AGES:
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "now"
