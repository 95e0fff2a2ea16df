"""The user's own Python files, taken along to nodes that do not see the study file's folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpo.errors import UserError

_LIMIT_MB = 20


@dataclass(frozen=True)
class Modules:
    """The modules and packages that lie in ``folder``: relative path -> content."""

    folder: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: str | None) -> Modules:
        """Those of the folder of a study file; packages are folders with an ``__init__.py``.

        Raises:
            UserError: they are more than 20 MB.
        """
        if folder is None:
            return cls()
        files = {str(path.relative_to(folder)): path.read_bytes() for path in _sources(Path(folder))}
        size_mb = sum(map(len, files.values())) / 2**20
        if size_mb > _LIMIT_MB:
            raise UserError(
                f"The Python files beside the study file, in {folder}, are {size_mb:.0f} MB; up to {_LIMIT_MB} MB are "
                "sent to other nodes. Move the study file and its modules to a folder of their own."
            )
        return cls(folder, files)

    def found_in(self, folder: str | None) -> str | None:
        """Where this process finds what lies in ``folder``: there, or in a copy if this machine does not see it."""
        if folder is None or folder != self.folder or Path(folder).is_dir():
            return folder
        return self._unpacked()

    def _unpacked(self) -> str:
        if self.folder not in _copies:
            copy = tempfile.TemporaryDirectory(prefix="hpo-modules-")
            for name, content in self.files.items():
                path = Path(copy.name) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            _copies[self.folder] = copy
        return _copies[self.folder].name


_copies: dict[str | None, tempfile.TemporaryDirectory[str]] = {}  # of this process, removed when it ends


def _sources(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("*.py"))
    for package in sorted(path.parent for path in folder.glob("*/__init__.py")):
        yield from sorted(package.rglob("*.py"))
