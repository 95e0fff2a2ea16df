"""Use case: a bundle becomes a version of a model, or nothing of it stays.

The files go to their place first and are read back from there; then one transaction makes
the version and moves its labels. Of two publishers who want one number the database lets
one through.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hpo.errors import BundleError, StorageError, UserError
from hpo.export.bundle import ModelBundle
from hpo.export.verify import verify_bundle
from hpo.service.registry.announcing import announce
from hpo.service.registry.diff import ModelDiff
from hpo.service.registry.files import Placing, opened_version, place_for_models, remove_left_overs
from hpo.service.registry.labelling import ALLOWED_FALL, check_reason, judge, who
from hpo.service.registry.names import LATEST, Number, check_label, check_model, next_number, parse_number
from storage import codec
from storage.database import Database
from storage.records import RegisteredModel, VersionRecord
from storage.registry import NOWHERE, LabelMove, LabelMoved, Registry, VersionTaken


@dataclass(frozen=True)
class Published:
    """A new version, and what came with it.

    ``stays``: why ``latest`` did not move to it. ``is_held``: that is because it falls, or because nothing
    can be said of that. ``left_overs``: folders of publishings that died, which were taken away.
    """

    version: VersionRecord
    labels: Sequence[str]
    diff: ModelDiff | None = None
    stays: str | None = None
    is_held: bool = False
    left_overs: Sequence[str] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class _Latest:
    """What is to become of ``latest``: it moves only while it points at ``seen``, for a ``reason``; or why it stays."""

    seen: int = NOWHERE
    reason: str | None = None
    diff: ModelDiff | None = None
    stays: str | None = None
    is_held: bool = False


def publish(
    storage: str,
    bundle: Path,
    name: str,
    *,
    bump: str | None = None,
    version: str | None = None,
    force: str | None = None,
    labels: Sequence[str] = (),
    place: str | None = None,
    allowed_fall: float = ALLOWED_FALL,
    import_from: Path | None = None,
    notes: str | None = None,
) -> Published:
    """Make a bundle the version of the model ``name`` that ``bump`` (minor) or ``version`` says, with ``labels``.

    ``latest`` moves to it when it is the higher version and its main metric is at most the share
    ``allowed_fall`` worse than what ``latest`` points at. ``force`` is a reason, which is kept, to
    publish in spite of gates that are not met and to move ``latest`` in spite of a fall.

    Raises:
        UserError: a name, number, place or share cannot be; the version is there, or the same
            bundle; gates are not met; a format is no longer the model.
        BundleError: the bundle is incomplete or changed, or cannot be put at its place.
        StorageError: the database failed; whether the version stands is for ``models`` to say.
    """
    check_model(name)
    for label in labels:
        check_label(label)
    check_reason("--force", force)
    if not 0 <= allowed_fall < float("inf"):
        raise UserError(f"--allowed-fall is a share of at least 0, such as 0.1; got {allowed_fall}.")
    source, place = ModelBundle.open(bundle), place_for_models(place)
    if force is None:
        _refuse_unreleased(source)
    with Database(storage, create=True) as database:
        registry, owner = Registry(database), str(database.file.resolve()) if database.file else database.name
        model = registry.find(name) or RegisteredModel(name, (), {})
        number = _number(model, bump, version)
        for other in model.versions:
            if other.number == number or other.digest == source.digest:
                raise UserError(_taken(other, source))
        _refuse_broken(source, import_from)
        left_overs, warnings = _left_overs(place, owner, model)
        draft = _draft(source, name, number, force, notes)
        placing = Placing.new(place, name, draft.name)
        draft = replace(draft, place=str(placing.place))
        try:
            _put(placing, source, owner, draft)
            decide = partial(_latest, registry, draft, source, allowed_fall, import_from)
            stored, moved, latest = _store(registry, draft, labels, decide)
        except VersionTaken as quicker:
            _take_away(placing, registry)
            again = "" if quicker.holder.digest == source.digest else " Run the same command again."
            raise UserError(_taken(quicker.holder, source) + again) from None
        except StorageError:
            raise  # the transaction may have been made, so the files stay; the next publishing knows
        except BaseException:
            _take_away(placing, registry)
            raise
    warnings += [*_finish(placing), *announce(stored, moved)]
    return Published(stored, moved, latest.diff, latest.stays, latest.is_held, left_overs, warnings)


def _number(model: RegisteredModel, bump: str | None, version: str | None) -> Number:
    if bump is not None and version is not None:
        raise UserError("--bump counts on from the highest version, --version names one: give one of them.")
    if version is not None:
        return parse_number(version)
    return next_number([there.number for there in model.versions], bump or "minor")


def _refuse_unreleased(bundle: ModelBundle) -> None:
    manifest = bundle.manifest
    if not manifest.released:
        unmet = "; ".join(gate.line for gate in manifest.gates if gate.met is not True)
        raise UserError(
            f"{bundle.folder} is not published. {manifest.release}{f' {unmet}.' if unmet else ''} "
            "To publish it all the same, give a reason with --force."
        )


def _refuse_broken(bundle: ModelBundle, import_from: Path | None) -> None:
    report = verify_bundle(bundle.folder, import_from=None if import_from is None else str(import_from.resolve()))
    broken = [f"{name}: {check.reason}" for name, check in report.checks.items() if check.reason is not None]
    if broken:
        raise UserError(f"{bundle.folder} is not published. {' '.join(broken)} Mend that, or export it anew.")


def _taken(holder: VersionRecord, bundle: ModelBundle) -> str:
    by = f"published by {holder.published_by} on {holder.host} at {holder.created_at[:19].replace('T', ' ')} UTC"
    if holder.digest == bundle.digest:
        return f"This very bundle is {holder.reference} already, {by}."
    return f"{holder.reference} is taken, {by}, and a published version never changes."


def _draft(bundle: ModelBundle, model: str, number: Number, force: str | None, notes: str | None) -> VersionRecord:
    """The version as far as it is known before it has a place and a moment."""
    manifest, files = bundle.manifest, bundle.files
    return VersionRecord(
        model=model, number=number, created_at=codec.now(), digest=bundle.digest, place="",
        bytes=sum((bundle.folder / file).stat().st_size for file in files), files=len(files),
        manifest=manifest.model_dump(mode="json"), study=manifest.origin.get("study"),
        trial=manifest.origin.get("trial"), published_by=who(), host=socket.gethostname(), forced=force, notes=notes,
    )  # fmt: skip


def _put(placing: Placing, bundle: ModelBundle, owner: str, draft: VersionRecord) -> None:
    try:
        placing.put(bundle, owner)
        with opened_version(draft):
            pass  # what came to lie there is the bundle
    except OSError as error:
        raise BundleError(
            f"{draft.reference} is not published: its files cannot be put at {placing.place} ({error}). "
            "Free space or make the place, or name another with --place."
        ) from error


def _store(
    registry: Registry, draft: VersionRecord, labels: Sequence[str], decide: Callable[[], _Latest]
) -> tuple[VersionRecord, list[str], _Latest]:
    """The version as it is in the database, the labels that moved to it, and what became of ``latest``."""
    while True:
        latest = decide()
        moves = [LabelMove(label) for label in sorted({*labels} - {LATEST})]
        if latest.stays is None:
            moves.append(LabelMove(LATEST, latest.reason, latest.seen))
        with suppress(LabelMoved):  # else it was decided of what is no longer the latest
            return registry.publish(draft, moves), [move.label for move in moves], latest


def _latest(
    registry: Registry, new: VersionRecord, bundle: ModelBundle, allowed_fall: float, import_from: Path | None
) -> _Latest:
    model = registry.find(new.model)
    old = model.labels.get(LATEST) if model else None
    if old is None or old.id is None:
        return _Latest()
    if old.number > new.number:
        return _Latest(stays=f"{old.name} is the higher version")
    judgement = judge(old, bundle, allowed_fall, import_from)
    if judgement.refusal is not None and new.forced is None:
        return _Latest(diff=judgement.diff, stays=judgement.refusal, is_held=True)
    return _Latest(old.id, None if judgement.refusal is None else new.forced, judgement.diff)


def _left_overs(place: str, owner: str, model: RegisteredModel) -> tuple[list[str], list[str]]:
    """The folders that were taken away, and what went wrong with that, which stops nothing."""
    try:
        return remove_left_overs(place, model.name, owner, {version.place for version in model.versions}), []
    except OSError as error:
        return [], [f"What earlier publishings left at {place} could not be taken away: {error}."]


def _finish(placing: Placing) -> list[str]:
    try:
        placing.finish()
    except OSError as error:
        return [f"The mark of {placing.place} could not be taken away; the next publishing tries again: {error}."]
    return []


def _take_away(placing: Placing, registry: Registry) -> None:
    """Take a version's files away, unless it was published after all; whoever cannot tell leaves them."""
    with suppress(StorageError, OSError):
        model = registry.find(placing.model)
        if model is None or str(placing.place) not in {version.place for version in model.versions}:
            placing.remove()
