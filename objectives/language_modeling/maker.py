"""Real texts that every machine has: the functions of Python's standard library, with their docstrings.

One JSON line a function: ``text`` (its source), ``docstring``, ``signature``, ``summary`` (the
docstring's first line), ``area`` (the chapter of the library reference that its module stands in),
``module`` and ``id``. So the same file serves every task.
"""

from __future__ import annotations

import ast
import json
import random
import sys
import sysconfig
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo import durable
from hpo.errors import DataError
from hpo.trial import derive_seed

LEAST_CHARACTERS, MOST_CHARACTERS = 120, 2000
# Chapters of "The Python Standard Library" (docs.python.org/3/library) with packages of some size.
AREAS: Mapping[str, tuple[str, ...]] = {
    "concurrency": ("asyncio", "threading", "multiprocessing", "concurrent", "subprocess", "queue", "sched"),
    "internet": ("urllib", "http", "email", "smtplib", "imaplib", "ftplib", "socketserver", "xmlrpc", "poplib"),
    "development": ("unittest", "doctest", "pdb", "trace", "inspect", "ast", "dis", "pydoc", "bdb"),
    "files": ("pathlib", "shutil", "tempfile", "os", "posixpath", "ntpath", "tarfile", "zipfile", "gzip", "glob"),
    "numbers": ("statistics", "fractions", "random", "_pydecimal", "numbers", "datetime", "calendar", "colorsys"),
    "data": ("json", "csv", "xml", "html", "collections", "dataclasses", "enum", "copy", "pprint", "configparser"),
}


def make(out: Path, records: int, seed: int, *, progress: bool = True) -> Path:
    """Write ``records`` functions to ``out``, drawn by ``seed``; the same Python and seed give the same file.

    What was parsed before an interruption is not parsed again.

    Raises:
        DataError: a number is out of range, ``out`` exists, cannot be written, or the
            library has fewer functions.
    """
    if not isinstance(records, int) or isinstance(records, bool) or records < 1:
        raise DataError(f"records must be a whole number of at least 1; got {records!r}.")
    path = Path(out)
    if path.exists():
        raise DataError(f"{path} exists already. Delete it or choose another file.")
    parsed = path.with_name(path.name + ".parsed")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = list(_parsed(parsed, progress))
        if len(found) < records:
            raise DataError(f"The standard library here has {len(found)} such functions; {records} were asked for.")
        chosen = random.Random(derive_seed(seed, "functions")).sample(found, records)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen)
        durable.write(path, lambda scratch: scratch.write_text(text, encoding="utf-8"))
        parsed.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"Cannot write {path}: {error.strerror or error}. Choose a file in a folder of yours."
        ) from error
    return path


def _parsed(kept: Path, progress: bool) -> Iterator[dict[str, Any]]:
    """The functions of all files: from ``kept``, one line a file, as far as it goes, and parsed from there on."""
    from tqdm import tqdm

    root = Path(sysconfig.get_paths()["stdlib"])
    done = dict(_intact(kept))
    with (
        kept.open("a", encoding="utf-8") as file,
        tqdm(_sources(root), unit="file", file=sys.stderr, disable=not progress) as bar,
    ):
        for area, source in bar:
            name = source.relative_to(root).as_posix()
            if name not in done:
                done[name] = list(_functions(source, name, area))
                file.write(json.dumps([name, done[name]]) + "\n")
                file.flush()
            yield from done[name]


def _intact(kept: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The lines that an earlier run finished; a torn last one is cut off."""
    if not kept.exists():
        return
    text = kept.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        durable.write(kept, lambda scratch: scratch.write_text(whole, encoding="utf-8"))
    for line in whole.splitlines():
        name, rows = json.loads(line)
        yield name, rows


def _sources(root: Path) -> list[tuple[str, Path]]:
    found = []
    for area, packages in AREAS.items():
        for package in packages:
            single = root / f"{package}.py"
            files = [single] if single.is_file() else sorted((root / package).rglob("*.py"))
            found += [(area, file) for file in files if "test" not in file.parts]
    return found


def _functions(source: Path, name: str, area: str) -> Iterator[dict[str, Any]]:
    text = source.read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")
    module = name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    for node in _definitions(ast.parse(text).body):
        docstring = ast.get_docstring(node)
        code = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
        if not docstring or not LEAST_CHARACTERS <= len(code) <= MOST_CHARACTERS:
            continue
        yield {
            "id": f"{module}:{node.name}:{node.lineno}",
            "module": module,
            "area": area,
            "text": code,
            "docstring": docstring,
            "signature": f"{module}.{node.name}({ast.unparse(node.args)})",
            "summary": docstring.strip().splitlines()[0],
        }


def _definitions(body: Sequence[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions and methods; none that stands inside another, whose text it would repeat."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from _definitions(node.body)
