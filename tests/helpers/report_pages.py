"""What is in a report's page, read back as the browser reads it."""

from __future__ import annotations

import base64
import gzip
import json
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """The tags of a page with their attributes, its texts, and what its scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.packed: dict[str, Any] = {}
        self._packed: str | None = None
        self._is_text = True
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self._is_text = tag not in ("script", "style")
        self._packed = attributes["id"] if attributes.get("type") == "application/gzip" else None

    def handle_endtag(self, tag: str) -> None:
        self._is_text, self._packed = True, None

    def handle_data(self, data: str) -> None:
        if self._packed is not None:
            self.packed[self._packed] = json.loads(gzip.decompress(base64.b64decode(data)))
        elif self._is_text:
            self.texts.append(data)

    @property
    def worlds(self) -> list[Any]:
        """Results and figures of each suite and world."""
        return [found for name, found in self.packed.items() if name != "shared"]

    @property
    def runs(self) -> list[dict[str, Any]]:
        """For each run what its cells are sorted by, by their headings, and its details."""
        table = self.packed["shared"]["runs"]
        headings = [column["title"] for column in table["columns"]]
        return [
            {**dict(zip(headings, (value for _, value in cells), strict=True)), "details": details}
            for *cells, details in table["rows"]
        ]


def text_of(html: str) -> str:
    """What is read of some HTML, with a line for each small text."""
    found = Page(html.replace("<small>", "<small>\n"))
    return "".join(found.texts)
