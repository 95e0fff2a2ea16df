"""Places for copies of what must not be lost: a folder, such as a mounted drive, or a bucket of S3.

A place holds files by name. It is written as a path, ``/mnt/drive/hpo``, or as
``s3://BUCKET/PREFIX``, for another server than Amazon's with
``?endpoint_override=HOST:PORT&scheme=http``. Credentials are the machine's own
(environment, ``~/.aws``, role), never part of the address, because it is stored and shown.
"""

from __future__ import annotations

import errno
import functools
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

from hpo import durable
from hpo.errors import UserError

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

_S3_OPTIONS = ("endpoint_override", "region", "scheme")
_CONNECT_S, _REQUEST_S = 10, 60


class Place(Protocol):
    """A folder of files, somewhere. Every method raises ``OSError`` where it cannot do what it says."""

    def __truediv__(self, name: str) -> Place: ...
    def __str__(self) -> str: ...
    def make(self, above: int | None = 0) -> None:
        """Make the folder where it is missing, and so many ``above`` it (None: all). What lies above must be there."""

    def names(self) -> list[str]:
        """The files there; none where there is no such folder."""

    def put(self, source: Path, name: str, *, keep: str | None = None) -> None:
        """Have a copy of ``source`` take the place of ``name`` whole; the one of until now goes on as ``keep``."""

    def fill(self, name: str, write: Callable[[Path], object], *, sync: bool = True) -> None:
        """As ``put``, of a file that ``write`` makes; without ``sync`` a power cut may undo it."""

    def take(self, name: str, scratch: Path) -> Path:
        """A file that has the content of ``name``: itself, or a copy in the folder ``scratch``."""

    def open(self, name: str) -> IO[bytes]:
        """A file to read from, at any place in it; of a distant one only what is read is fetched."""

    def remove(self, name: str) -> None:
        """Delete a file, where there is one."""

    def remove_folder(self, name: str) -> None:
        """Delete a folder with all that is in it, where there is one."""

    def remove_unfinished(self) -> None:
        """Delete what a process left that died while writing."""


def parse(text: str) -> Place:
    """The place that ``text`` names. Touches neither disk nor network.

    Raises:
        UserError: it is neither an absolute path nor an address of S3, or holds credentials.
    """
    if "://" not in text:
        if not Path(text).is_absolute():
            raise UserError("must be an absolute path, the same for every worker, or s3://BUCKET/PREFIX")
        return Folder(Path(text))
    parts = urlsplit(text)
    options = dict(parse_qsl(parts.query))
    if parts.scheme != "s3" or not parts.netloc:
        raise UserError("must be an absolute path or s3://BUCKET/PREFIX")
    if "@" in parts.netloc:
        raise UserError("credentials do not belong into the address; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    unknown = sorted(set(options) - set(_S3_OPTIONS))
    if unknown:
        raise UserError(f"s3 takes {', '.join(_S3_OPTIONS)} after the '?', not {', '.join(unknown)}")
    return Bucket(parts.netloc + parts.path.rstrip("/"), tuple(sorted(options.items())))


class Folder:
    """A folder of the file system."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __truediv__(self, name: str) -> Folder:
        return Folder(self.path / name)

    def __str__(self) -> str:
        return str(self.path)

    def make(self, above: int | None = 0) -> None:
        base = self.path.parents[above] if above is not None else None
        # A drive that is not mounted must not be taken for one.
        if base is not None and not base.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"there is no {base} (mount its drive, or make it)")
        self.path.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []

    def put(self, source: Path, name: str, *, keep: str | None = None) -> None:
        durable.copy(source, self.path / name, keep=self.path / keep if keep else None)

    def fill(self, name: str, write: Callable[[Path], object], *, sync: bool = True) -> None:
        durable.write(self.path / name, write, sync=sync)

    def take(self, name: str, scratch: Path) -> Path:
        return self.path / name

    def open(self, name: str) -> IO[bytes]:
        return (self.path / name).open("rb")

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def remove_folder(self, name: str) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self.path / name)

    def remove_unfinished(self) -> None:
        durable.remove_unfinished(self.path)


class Bucket:
    """What begins with a prefix in a bucket of S3. A file is there as a whole or not at all: S3 sees to that."""

    def __init__(self, path: str, options: tuple[tuple[str, str], ...] = ()) -> None:
        self._path, self._options = path, options

    def __truediv__(self, name: str) -> Bucket:
        return Bucket(f"{self._path}/{name}", self._options)

    def __str__(self) -> str:
        return f"s3://{self._path}" + (f"?{urlencode(self._options)}" if self._options else "")

    def make(self, above: int | None = 0) -> None:
        """Nothing: S3 has no folders. A bucket that is not there is told by the first file."""

    def names(self) -> list[str]:
        from pyarrow.fs import FileSelector, FileType

        found = self._files.get_file_info(FileSelector(self._path, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type is FileType.File)

    def put(self, source: Path, name: str, *, keep: str | None = None) -> None:
        target = f"{self._path}/{name}"
        if keep is not None and name in self.names():
            self._files.copy_file(target, f"{self._path}/{keep}")
        with source.open("rb") as content, self._files.open_output_stream(target) as stream:
            shutil.copyfileobj(content, stream, length=2**20)

    def fill(self, name: str, write: Callable[[Path], object], *, sync: bool = True) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            write(Path(scratch) / name)
            self.put(Path(scratch) / name, name)

    def take(self, name: str, scratch: Path) -> Path:
        copy = scratch / name
        scratch.mkdir(parents=True, exist_ok=True)
        with self._files.open_input_stream(f"{self._path}/{name}") as stream, copy.open("wb") as content:
            shutil.copyfileobj(stream, content, length=2**20)
        return copy

    def open(self, name: str) -> IO[bytes]:
        return self._files.open_input_file(f"{self._path}/{name}")

    def remove(self, name: str) -> None:
        from pyarrow.fs import FileType

        target = f"{self._path}/{name}"
        if self._files.get_file_info(target).type is FileType.File:  # asked of the one: there may be thousands
            self._files.delete_file(target)

    def remove_folder(self, name: str) -> None:
        from pyarrow.fs import FileSelector, FileType

        below = FileSelector(f"{self._path}/{name}", allow_not_found=True, recursive=True)
        for info in self._files.get_file_info(below):
            if info.type is FileType.File:
                self._files.delete_file(info.path)

    def remove_unfinished(self) -> None:
        """Nothing: an upload that broke off shows nowhere."""

    @property
    def _files(self) -> S3FileSystem:
        return _s3(self._options)


@functools.cache
def _s3(options: tuple[tuple[str, str], ...]) -> S3FileSystem:
    from pyarrow.fs import S3FileSystem

    return S3FileSystem(**dict(options), connect_timeout=_CONNECT_S, request_timeout=_REQUEST_S)
