"""What is in a report's page, read back as the browser reads it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """The tags of a page with their attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
            self._in_script = True

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data

    @property
    def data(self) -> Any:
        """What the page shows; of its scripts the second."""
        return json.loads(self.scripts[1])


def config_of(runs: dict[str, Any], number: int) -> dict[str, Any]:
    """The config of a run, put together from what is common to all and what is its own."""
    found: dict[str, Any] = {}
    common, columns = runs["config"]["common"], runs["config"]["columns"]
    own = [
        (column["path"], column["values"][column["at"][number]])
        for column in columns
        if column["at"][number] >= 0
    ]
    for (*above, last), value in [*common, *own]:
        place = found
        for name in above:
            place = place.setdefault(name, {})
        place[last] = value
    return found


def in_rows(column: dict[str, Any]) -> list[Any]:
    """A pooled column with each row's own value."""
    return [column["values"][number] for number in column["at"]]
