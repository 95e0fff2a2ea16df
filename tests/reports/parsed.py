"""A report's page, taken apart for tests of what it says."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from hpo.reports.page import write_report
from storage.records import Snapshot

VOID = {"meta", "link", "input", "img", "br", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, the text outside scripts and styles, and the rows of the trial table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.rows: dict[int, list[str]] = {}
        self.scripts: list[str] = []
        self._row: int | None = None
        self.feed(html)
        self.rows = {n: [cell.strip() for cell in cells] for n, cells in self.rows.items()}
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")
        match = re.fullmatch(r"trial-(\d+)", found.get("id", ""))
        if match:
            self._row = int(match[1])
            self.rows[self._row] = []
        elif self._row is not None and tag in ("td", "th"):
            self.rows[self._row].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"
        if tag == "tr":
            self._row = None

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts[-1] += data
        elif "style" not in self.open:
            self.words.append(data)
            if self._row is not None and self.rows[self._row]:
                self.rows[self._row][-1] += data

    @property
    def figures(self) -> dict[str, list[dict]]:
        return json.loads(self.scripts[0])


def write(snapshot: Snapshot, folder: Path) -> tuple[Page, list[Path]]:
    paths = write_report(snapshot, folder)
    assert paths[0].name == "index.html"
    page = Page(paths[0].read_text(encoding="utf-8"))
    assert page.open == []
    return page, paths
