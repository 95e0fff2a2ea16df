"""The files of published versions: put at their place, held against what was recorded, taken away again.

A version's files lie in a folder of their own, ``PLACE/MODEL/v1.2.0-1a2b3c4d``. While they are put there,
a file beside it, ``v1.2.0-1a2b3c4d.publishing``, says which database the version is for; so what a
process left that died can be told from a version of another database at the same place.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpo import places
from hpo.errors import BundleError, UserError
from hpo.export.bundle import CHECKSUMS, ModelBundle, read_checksums
from hpo.places import Place
from storage import codec
from storage.records import VersionRecord

_MARK = ".publishing"
_LEFT_OVER_S = 24 * 3600.0


def place_for_models(place: str | None) -> str:
    """Where versions are put: ``place``, else ``$HPO_MODELS``, else ``models`` in the current folder; absolute.

    Raises:
        UserError: it is neither a path nor an address of S3.
    """
    text = place or os.environ.get("HPO_MODELS") or "models"
    absolute = text if "://" in text else str(Path(text).absolute())
    try:
        return str(places.parse(absolute))
    except UserError as error:
        got = "" if "@" in text or "?" in text else f"; got {text!r}"  # what may be a password is not shown
        raise UserError(f"The place of models: {error}{got}.") from None


@contextmanager
def opened_version(version: VersionRecord) -> Iterator[ModelBundle]:
    """A version's bundle: where it lies, or of a bucket in a temporary folder. It is what was published, byte by byte.

    Raises:
        BundleError: its files are gone or have changed.
    """
    with tempfile.TemporaryDirectory(prefix="hpo-model-") as scratch:
        yield _open(version, Path(scratch))


def read_file(version: VersionRecord, name: str) -> bytes:
    """One file of a version's folder, without the others.

    Raises:
        BundleError: it is gone or has changed.
    """
    with tempfile.TemporaryDirectory(prefix="hpo-model-") as scratch, _told(version):
        place, folder = places.parse(version.place), _checksums(version, Path(scratch))
        content = place.take(name, Path(scratch)).read_bytes()
        if hashlib.sha256(content).hexdigest() != read_checksums(folder).get(name):
            raise _unusable(version, f"{name} has changed since")
        return content


@dataclass(frozen=True)
class Placing:
    """A new folder for one version's files, marked as unfinished until ``finish``."""

    models: Place
    model: str
    name: str

    @classmethod
    def new(cls, place: str, model: str, version: str) -> Placing:
        return cls(places.parse(place), model, f"{version}-{secrets.token_hex(4)}")

    @property
    def parent(self) -> Place:
        return self.models / self.model

    @property
    def place(self) -> Place:
        return self.parent / self.name

    def put(self, bundle: ModelBundle, database: str) -> None:
        """Raises OSError where the place cannot be written."""
        self.parent.make(above=1)  # the place itself and the model's folder; what lies above must be there
        mark = json.dumps({"database": database, "at": codec.now()})
        self.parent.fill(self.name + _MARK, lambda path: path.write_text(mark, "utf-8"))
        for name in bundle.files:
            folder, base = _locate(self.place, name)
            folder.make(above=None)
            folder.put(bundle.folder / name, base)

    def finish(self) -> None:
        """The version stands in the database."""
        self.parent.remove(self.name + _MARK)

    def remove(self) -> None:
        """Take everything away again."""
        self.parent.remove_folder(self.name)
        self.finish()


def remove_left_overs(place: str, model: str, database: str, kept: set[str]) -> list[str]:
    """Take away what publishings of this model into this database left that died more than a day ago; its folders.

    ``kept`` are the places of its versions.

    Raises:
        OSError: the place cannot be read or written.
    """
    models, removed = places.parse(place), list[str]()
    for name in (models / model).names():
        if not name.endswith(_MARK):
            continue
        left = Placing(models, model, name.removesuffix(_MARK))
        if str(left.place) in kept:
            left.finish()  # it died between its transaction and this
        elif _is_dead(left.parent, name, database):
            left.remove()
            removed.append(str(left.place))
    return removed


def _is_dead(parent: Place, name: str, database: str) -> bool:
    try:
        with parent.open(name) as stream:
            mark = json.loads(stream.read())
    except FileNotFoundError:  # another publisher has just come to its end
        return False
    return mark["database"] == database and codec.seconds_between(mark["at"], codec.now()) > _LEFT_OVER_S


def _open(version: VersionRecord, scratch: Path) -> ModelBundle:
    with _told(version):
        folder = _checksums(version, scratch)
        for name in read_checksums(folder):
            holder, base = _locate(places.parse(version.place), name)
            holder.take(base, (scratch / name).parent)
        return ModelBundle.open(folder)


def _checksums(version: VersionRecord, scratch: Path) -> Path:
    """The folder that holds the version's checksums, which are those that were published."""
    file = places.parse(version.place).take(CHECKSUMS, scratch)
    if hashlib.sha256(file.read_bytes()).hexdigest() != version.digest:
        raise _unusable(version, f"{CHECKSUMS} has changed since")
    return file.parent


@contextmanager
def _told(version: VersionRecord) -> Iterator[None]:
    """Have what is wrong with a version's files told as that."""
    try:
        yield
    except BundleError as error:
        if error.fault is None:
            raise
        raise _unusable(version, error.fault) from error
    except OSError as error:
        raise _unusable(version, f"they cannot be read ({error})") from error


def _unusable(version: VersionRecord, fault: str) -> BundleError:
    return BundleError(
        f"{version.reference} cannot be used; of its files at {version.place}: {fault}. Put back what was there "
        f"(the checksums' sha256 is {version.digest[:12]}...), or publish the bundle anew."
    )


def _locate(place: Place, name: str) -> tuple[Place, str]:
    """The folder at the place that holds a bundle's file, and the file's name in it."""
    *folders, base = name.split("/")
    for folder in folders:
        place = place / folder
    return place, base
