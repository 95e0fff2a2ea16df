"""The page on the architecture says what the folders, the floors and the library table are."""

from __future__ import annotations

import re

from tests.pages import DOCS, ROOT, section
from tests.test_architecture import FLOORS, LIBRARIES, WITHOUT_TORCH

ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")
# Rooms that anybody may add a file to without editing anything, this page included.
OPEN_ROOMS = {"hpo/runners", "hpo/export/formats", "objectives", "search_spaces", "examples", "tests"}


def block_with(page: str, text: str) -> str:
    return next(block for block in re.findall(r"```\n(.*?)```", page, re.DOTALL) if text in block)


def tree() -> tuple[set[str], set[str]]:
    """The files and the folders that the tree of the architecture page names, as paths from the root."""
    files: set[str] = set()
    folders: set[str] = set()
    parents: list[str] = []
    for line in block_with(ARCHITECTURE, "cli.py").splitlines():
        entry = re.match(r"^((?:  ){0,3})(\w[\w.]*/?)(?: +|$)(.*)$", line)
        said = line
        if entry:
            depth, name, said = len(entry[1]) // 2, entry[2], entry[3]
            parents = parents[:depth]
            if name.endswith("/"):
                parents.append(name)
                folders.add("".join(parents).rstrip("/"))
            else:
                files.add("".join([*parents, name]))
        if not entry or entry[2].endswith("/"):
            here = "".join(parents)
            files |= {here + name for name in re.findall(r"\b[\w-]+\.(?:py|md)\b", said)}
            folders |= {here + name for name in re.findall(r"\b(\w+)/", said)}
    return files, folders


def test_every_file_and_folder_of_the_tree_is_there() -> None:
    files, folders = tree()
    assert len(files) > 100 and "hpo/training/checkpoints/file.py" in files and "hpo/training/team" in folders
    assert not [name for name in files if not (ROOT / name).is_file()]
    assert not [name for name in folders if not (ROOT / name).is_dir()]


def test_every_room_that_the_tree_lists_is_listed_whole() -> None:
    files, _ = tree()
    rooms = {name.rpartition("/")[0] for name in files} - OPEN_ROOMS - {""}
    assert {"hpo", "hpo/training", "hpo/training/team", "hpo/evaluation", "hpo/service", "storage", "docs"} <= rooms
    for room in rooms:
        there = {str(path.relative_to(ROOT)) for path in (ROOT / room).iterdir() if path.suffix in (".py", ".md")}
        unnamed = there - files - {f"{room}/__init__.py", f"{room}/README.md"}
        assert not unnamed, f"the tree of docs/architecture.md lacks {sorted(unnamed)}"


def test_every_room_of_the_code_is_in_the_tree() -> None:
    _, folders = tree()
    for top in ("hpo", "storage"):
        for path in (ROOT / top).rglob("*"):
            name = str(path.relative_to(ROOT))
            if path.is_dir() and path.name != "__pycache__" and not name.startswith("storage/migrations/"):
                assert name in folders, f"the tree of docs/architecture.md lacks {name}/"


def test_the_floors_are_those_of_the_architecture_test() -> None:
    drawn: dict[str, int] = {}
    for line in block_with(ARCHITECTURE, "13  cli").splitlines():
        if floor := re.match(r" ?(\d+) +(.*)$", line):
            drawn |= {room: int(floor[1]) for room in floor[2].split()}
    assert drawn == FLOORS


def test_the_library_table_is_that_of_the_architecture_test() -> None:
    lines = section(ARCHITECTURE, "## Who may know whom").splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("|")][2:]
    only = {name.strip(): set(re.findall(r"`([^`]+)`", cell[1])) for cell in cells for name in cell[0].split(",")}
    assert only == {name: {room.rstrip("/") for room in rooms} for name, rooms in LIBRARIES.items()}
    not_in = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell[2])}
    assert not_in == WITHOUT_TORCH | {"objectives/*/__init__.py"}
