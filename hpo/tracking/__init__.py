"""Who else is told what a study does, one file each: the listing of this folder is the list, ``_`` aside.

Adding a tracker is adding a module here with the members of ``TrackerModule``, and an extra of
its name; nothing else is edited. Each imports its library when it is opened, in a thread beside
the study.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Sequence
from functools import partial
from typing import cast

from pydantic import ValidationError

from hpo.aside import Aside
from hpo.errors import UnknownName, UserError
from hpo.spec import Named
from hpo.tracking._listener import TrackingListener, one_line
from hpo.tracking._roles import Registers, Tracker, TrackerModule, TrackerOptions
from storage.records import VersionRecord
from storage.studies import StoredStudy, Studies


def known() -> list[str]:
    """The names of the trackers, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def find(name: str) -> TrackerModule:
    """The tracker called ``name``, without its library.

    Raises:
        UnknownName: there is no such file in this folder.
    """
    if name not in known():
        raise UnknownName("tracker", name, known())
    return cast(TrackerModule, importlib.import_module(f"{__name__}.{name}"))


def options(named: Named) -> TrackerOptions:
    """What a study file says of a tracker, in the tracker's own form.

    Raises:
        UserError: an unknown tracker or option, or a value that is not allowed.
    """
    model = find(named.name).Options
    for option in named.options:
        if option not in model.model_fields:
            raise UnknownName(f"option of {named.name}", option, model.model_fields)
    try:
        return model.model_validate(named.options)
    except ValidationError as error:
        first = error.errors()[0]
        rule = first["msg"].removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
        # A rule of ours says itself what may be shown of the value.
        got = "" if first["type"] == "value_error" else f"; got {first['input']!r}"
        raise UserError(f"{named.name}: {first['loc'][0]}: {rule}{got}.") from None


def check(wanted: Sequence[Named]) -> None:
    """Hold what a study file says of trackers against what there is; no library is needed for it.

    Raises:
        UserError: as ``options``, or one stands there twice.
    """
    for named in wanted:
        try:
            options(named)
        except UserError as error:
            raise UserError(f"tracking: {error}") from None
        if wanted.count(named) > 1:
            raise UserError(f"tracking: {named.name} stands there twice.")


def require(wanted: Sequence[Named]) -> None:
    """Refuse trackers that cannot work on this machine.

    Raises:
        UserError: a package is not installed, or something that the options name is not here.
    """
    for named in wanted:
        _require_package(named.name)
        options(named).check_here()


def listeners(wanted: Sequence[Named], studies: Studies, study: StoredStudy) -> list[TrackingListener]:
    """One listener per tracker; each opens its own in its own thread. The caller closes them."""
    return [_listen(named, studies, study) for named in wanted]


def register(
    wanted: Sequence[Named], version: VersionRecord, labels: Sequence[str] = (), gone: Sequence[str] = ()
) -> list[str]:
    """Tell the trackers that keep models of a published version, or of labels that came to it or were taken away.

    Safe to repeat. Returns a line for each that could not take it, which is never an error.
    """
    failed = []
    for named in wanted:
        module, chosen = find(named.name), options(named)
        if not hasattr(module, "register"):
            continue
        try:
            _require_package(named.name)
            cast(Registers, module).register(chosen, version, labels, gone)
        except (Exception, SystemExit) as error:  # whatever a library does, the version stands
            line = one_line(error, chosen.hide)
            failed.append(f"{module.TITLE} has not been told of {version.reference}: {line}.")
    return failed


def _listen(named: Named, studies: Studies, study: StoredStudy) -> TrackingListener:
    module, chosen = find(named.name), options(named)
    aside = Aside(studies, study, "tracking_failed", module.TITLE)
    return TrackingListener(aside, partial(_open, named.name, chosen, study), chosen.hide)


def _open(name: str, chosen: TrackerOptions, study: StoredStudy) -> Tracker:
    _require_package(name)
    return find(name).Tracker(chosen, study)


def _require_package(name: str) -> None:
    package = find(name).PACKAGE
    if importlib.util.find_spec(package) is None:
        raise UserError(f"tracking: {name} needs the package {package}: pip install 'hpo[{name}]'.")
