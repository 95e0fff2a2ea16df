"""Use case: move a label of a model; and the rule that ``latest`` is held to."""

from __future__ import annotations

import getpass
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpo.errors import HpoError, UserError, WorkError
from hpo.export.bundle import ModelBundle
from hpo.service.registry.announcing import announce
from hpo.service.registry.diff import ModelDiff, diff
from hpo.service.registry.files import opened_version
from hpo.service.registry.names import LATEST, check_label
from hpo.service.registry.reading import version_of
from storage.database import Database
from storage.records import RegisteredModel, VersionRecord
from storage.registry import NOWHERE, LabelMove, LabelMoved, Registry

ALLOWED_FALL = 0.10  # the share by which the main metric of a new latest may be worse


@dataclass(frozen=True)
class Labelled:
    """Where a label pointed and where it points now; None for nowhere."""

    model: str
    label: str
    before: VersionRecord | None
    after: VersionRecord | None
    diff: ModelDiff | None = None  # of ``latest``, where nobody gave a reason
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Judgement:
    """Whether a version may follow another one as ``latest``; ``refusal`` says why not."""

    diff: ModelDiff | None
    refusal: str | None


def label_version(
    storage: str,
    model: str,
    version: str,
    label: str,
    *,
    reason: str | None = None,
    remove: bool = False,
    import_from: Path | None = None,
) -> Labelled:
    """Have ``label`` point at a version of a model, or with ``remove`` take it away from that one.

    ``latest`` moves to a version that falls, or goes, only for a ``reason``, which is kept.

    Raises:
        UserError: there is no such model or version, no label may be called so, or the label
            that is to be removed points elsewhere.
        WorkError: the version falls by more than ``ALLOWED_FALL``, or nothing can be said of that.
    """
    check_label(label)
    check_reason("--reason", reason)
    with Database(storage) as database:
        registry = Registry(database)
        while True:
            found = registry.get(model)
            target, before = version_of(found, version), found.labels.get(label)
            move = LabelMove(label, reason, NOWHERE if before is None else before.id)
            with suppress(LabelMoved):  # else it was decided of what the label no longer points at
                if remove:
                    _check_removal(found, target, move)
                    registry.remove_label(model, move, who())
                    return Labelled(model, label, before, None, warnings=announce(target, gone=[label]))
                compared = _hold_latest(target, before, import_from) if (label, reason) == (LATEST, None) else None
                registry.move(model, move, target, who())
                return Labelled(model, label, before, target, compared, announce(target, [label]))


def judge(old: VersionRecord, new: ModelBundle, allowed_fall: float, import_from: Path | None) -> Judgement:
    """Whether ``new`` falls by no more than the share ``allowed_fall`` in its main metric; if so it may follow."""
    try:
        with opened_version(old) as before:
            found = diff(before, new, import_from=import_from)
    except HpoError as error:
        return Judgement(None, f"nothing can be said beside {old.name}: {str(error).rstrip('.')}")
    if found.fall is None:
        return Judgement(found, f"nothing can be said beside {old.name}: {(found.reason or '').rstrip('.')}")
    if found.fall > allowed_fall:
        goal = new.manifest.goal
        worse = f"is {found.fall:.3g} times" if math.isinf(found.fall) else f"is {found.fall:.1%}"
        metric = goal.metric if goal else "main metric"
        return Judgement(found, f"its {metric} {worse} worse than that of {old.name}; allowed is {allowed_fall:.1%}")
    return Judgement(found, None)


def check_reason(option: str, reason: str | None) -> None:
    """Raises UserError for a reason that says nothing."""
    if reason is not None and not reason.strip():
        raise UserError(f"{option} takes a reason in words, which is kept; got {reason!r}.")


def who() -> str:
    """The user of this process, by name where the machine knows one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a user that nobody named
        return f"uid {os.getuid()}"


def _hold_latest(new: VersionRecord, old: VersionRecord | None, import_from: Path | None) -> ModelDiff | None:
    if old is None or old.id == new.id:
        return None
    with opened_version(new) as bundle:
        judgement = judge(old, bundle, ALLOWED_FALL, import_from)
    if judgement.refusal is not None:
        raise WorkError(
            f"{LATEST} of {new.model} stays at {old.name}; of {new.name} {judgement.refusal}. "
            "To move it all the same, give a --reason."
        )
    return judgement.diff


def _check_removal(model: RegisteredModel, target: VersionRecord, move: LabelMove) -> None:
    holder = model.labels.get(move.label)
    if holder is None or holder.id != target.id:
        where = f"points at {holder.name}" if holder else "is none of its labels"
        raise UserError(f"{move.label} cannot be taken away from {target.reference}: it {where}.")
    if move.label == LATEST and move.reason is None:
        raise UserError(f"{model.name} alone means its {LATEST}; to take that away give a --reason.")
