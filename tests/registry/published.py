"""Publishing as a test does it, and what then stands where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

import cli
from hpo import service
from hpo.service.registry.publishing import Published
from storage.database import Database
from storage.registry import Registry
from tests.processes import ROOT


def publish(url: str, folder: Path, name: str = "logo", **options: Any) -> Published:
    return service.publish(url, folder, name, **options)


def versions(url: str, name: str = "logo") -> list[str]:
    return [version.name for version in service.models(url, name)[0].versions]


def labels(url: str, name: str = "logo") -> dict[str, str]:
    return {label: version.name for label, version in service.models(url, name)[0].labels.items()}


def history(url: str) -> list[tuple[str, str | None, str | None, str | None]]:
    with Database(url) as database:
        return [(move.label, move.before, move.after, move.reason) for move in Registry(database).moves("logo")]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


def hpo(*words: str) -> Any:
    return CliRunner().invoke(cli.app, [*words])


def fails(*words: str) -> tuple[int, str]:
    """Exit code and message of a command that is wrong."""
    code = f"import sys, cli; sys.argv = ['hpo', *{list(words)!r}]; cli.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr
