"""A model as a folder: written whole or not at all, opened only if every byte is as it was.

Knows files, checksums and the manifest; no torch, and nothing of how formats are made.
The checksums are in the form of ``sha256sum -c checksums.sha256``. They show damage and
mistakes; against somebody who rewrites them too, compare ``digest`` with the one that
was noted when the bundle was made.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hpo import durable
from hpo.errors import BundleError
from hpo.export.example import FILE as EXAMPLE
from hpo.export.manifest import VERSION, Manifest

if TYPE_CHECKING:
    from hpo.export.verify import VerifyReport

MANIFEST = "manifest.json"
CHECKSUMS = "checksums.sha256"
METRICS = "metrics.json"
CONFIG = "config.yaml"
README = "README.md"
ASSETS = "assets"  # a folder: what preparing new inputs takes; absent where nothing does
REQUIRED = (MANIFEST, METRICS, CONFIG, EXAMPLE, README)


@dataclass(frozen=True)
class ModelBundle:
    """A bundle that has been opened, and so was whole. ``digest``: sha256 of its checksums, hex."""

    folder: Path
    manifest: Manifest
    digest: str

    @classmethod
    def write(
        cls, path: Path, fill: Callable[[Path], None], *, overwrite: bool = False, digest: str | None = None
    ) -> ModelBundle:
        """Let ``fill`` put the files into a folder beside ``path``, seal them, and move it there in one step.

        Whatever happens before that step leaves ``path`` as it was. With ``digest`` it must come out as that bundle.

        Raises:
            BundleError: ``path`` exists and may not be overwritten, is not a bundle, or cannot
                be written (no such place, no right to it, the disk is full), or its digest is another.
        """
        path = Path(path).absolute()
        try:
            return cls._write(path, fill, overwrite, digest)
        except OSError as error:
            raise BundleError(
                f"The bundle {path} cannot be written: {error}. "
                "What was there is as it was; free space or name another folder."
            ) from error

    @classmethod
    def _write(cls, path: Path, fill: Callable[[Path], None], overwrite: bool, digest: str | None) -> ModelBundle:
        _refuse_existing(path, overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.tmp-", dir=path.parent))
        try:
            staged = temporary / "bundle"  # inside, so that mkdtemp's mode 0700 does not ship
            staged.mkdir()
            fill(staged)
            _seal(staged)
            opened = cls.open(staged)
            if digest not in (None, opened.digest):
                raise BundleError(f"The bundle {path} is not written: what came is not the bundle {digest}.")
            _refuse_existing(path, overwrite)  # again: filling took minutes
            _move(staged, path, temporary / "old")
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return cls(path, opened.manifest, opened.digest)

    @classmethod
    def open(cls, path: Path) -> ModelBundle:
        """Read the manifest of a bundle after every file has been held against its checksum.

        Raises:
            BundleError: it names the first file that is missing, changed, not listed, a
                link or outside the folder; the manifest is of a newer version, or a file cannot be read.
        """
        path = Path(path).absolute()
        try:
            return cls._open(path)
        except OSError as error:
            raise BundleError(f"The bundle {path} cannot be read: {error.strerror or error}.") from error

    @classmethod
    def _open(cls, path: Path) -> ModelBundle:
        if not path.is_dir():
            raise BundleError(f"A bundle is a folder; there is none at {path}.")
        sums = read_checksums(path)
        for name in dict.fromkeys((*REQUIRED, *sums)):
            _check_file(path, name, sums)
        for name in _files(path):
            if name != CHECKSUMS and name not in sums:
                raise _broken(path, name, "is not listed in the checksums")
        manifest = _read_manifest(path)
        for entry in manifest.formats.values():
            for name in entry.files:
                if name not in sums:
                    raise _broken(path, name, "is in the manifest but not in the checksums")
        return cls(path, manifest, hashlib.sha256((path / CHECKSUMS).read_bytes()).hexdigest())

    def verify(self, **options: Any) -> VerifyReport:
        """``hpo.export.verify.verify_bundle`` on this folder: the files again, and every format."""
        from hpo.export.verify import verify_bundle

        return verify_bundle(self.folder, **options)

    def refuse_inside(self, folder: Path | str | None, option: str = "--import-from") -> None:
        """Raises BundleError where a folder that was named lies in the bundle: its code would then be run."""
        if folder is not None and Path(folder).resolve().is_relative_to(self.folder.resolve()):
            raise BundleError(
                f"A bundle never changes, and may not choose what code runs; {option} {folder} lies in the bundle "
                f"{self.folder}. Name your own folder outside of it."
            )

    @property
    def files(self) -> list[str]:
        """Every file, relative and sorted, the checksums last."""
        return [*read_checksums(self.folder), CHECKSUMS]

    @property
    def metrics(self) -> dict[str, Any]:
        """What the bundle keeps of retraining: every seed's figures."""
        content: dict[str, Any] = json.loads((self.folder / METRICS).read_text("utf-8"))
        return content


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise BundleError(
            f"A bundle is not written over something else; {path} exists. Use --overwrite or name another."
        )
    if path.is_symlink() or not (path / MANIFEST).is_file():
        raise BundleError(f"Only a bundle can be overwritten; {path} has no {MANIFEST}. Name another folder.")


def _move(staged: Path, path: Path, old: Path) -> None:
    """Two renames when overwriting: between them the old bundle is put back if the second fails."""
    if path.exists():
        os.rename(path, old)
    try:
        os.rename(staged, path)
    except OSError:
        if old.exists():
            os.rename(old, path)
        raise
    durable.sync_folder(path.parent)


def _seal(folder: Path) -> None:
    lines = []
    for name in _files(folder):
        durable.sync_file(folder / name)
        lines.append(f"{_sha256(folder / name)}  {name}\n")
    (folder / CHECKSUMS).write_text("".join(lines), "utf-8", newline="\n")
    durable.sync_file(folder / CHECKSUMS)


def read_checksums(path: Path) -> dict[str, str]:
    """name -> sha256. The file must be exactly what ``_seal`` writes, so that no byte in it is free.

    Raises:
        BundleError: it is missing or of another form, or a name lies outside the folder.
    """
    file = path / CHECKSUMS
    if file.is_symlink() or not file.is_file():
        raise _broken(path, CHECKSUMS, "is missing")
    try:
        lines = file.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise _broken(path, CHECKSUMS, "is not text, so it was changed") from error
    found = [re.fullmatch(r"([0-9a-f]{64})  (\S.*)", line) for line in lines[:-1]]
    sums = {match[2]: match[1] for match in found if match}
    if lines[-1] or len(sums) != len(found) or list(sums) != sorted(sums):
        raise _broken(path, CHECKSUMS, "is not in the form it was written in, so it was changed")
    for name in sums:
        if name.startswith("/") or ".." in name.split("/") or "\\" in name or str(PurePosixPath(name)) != name:
            raise _broken(path, name, "lies outside the bundle's folder")
    return sums


def _check_file(path: Path, name: str, sums: dict[str, str]) -> None:
    here = path
    for part in PurePosixPath(name).parts:
        here = here / part
        if here.is_symlink():
            raise _broken(path, name, "is reached through a link, which may lead outside the folder")
    if not here.is_file():
        raise _broken(path, name, "is missing")
    if name not in sums:
        raise _broken(path, name, "is not listed in the checksums")
    if _sha256(here) != sums[name]:
        raise _broken(path, name, "has changed since the bundle was written")


def _read_manifest(path: Path) -> Manifest:
    try:
        content = json.loads((path / MANIFEST).read_text("utf-8"))
    except ValueError as error:
        raise _broken(path, MANIFEST, f"is not JSON ({error})") from error
    version = content.get("version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise _broken(path, MANIFEST, f"is of version {version}, this hpo reads up to {VERSION}; install a newer hpo")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _broken(path, MANIFEST, f"cannot be read: {where}: {first['msg']}") from error


def _files(folder: Path) -> list[str]:
    """Every file and link below ``folder``, relative, sorted."""
    return sorted(_walk(folder, folder))


def _walk(root: Path, folder: Path) -> Iterator[str]:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(root, Path(entry.path))
        else:
            yield Path(entry.path).relative_to(root).as_posix()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _broken(path: Path, name: str, what: str) -> BundleError:
    fault = f"{name} {what}"
    return BundleError(f"Bundle {path}: {fault}. Take the bundle again from where it was made.", fault)
