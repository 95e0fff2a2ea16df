"""From a task and its weights to a bundle: write every format, prove it, ship what holds."""

from __future__ import annotations

import errno
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hpo
from hpo.errors import ExportFailed
from hpo.evaluation.gates import Verdict, is_released
from hpo.export import formats as all_formats
from hpo.export.bundle import ASSETS, CONFIG, MANIFEST, METRICS, README, ModelBundle
from hpo.export.card import card
from hpo.export.compare import measure
from hpo.export.effect import shifts
from hpo.export.evidence import FILE as EVIDENCE
from hpo.export.example import ROWS, StoredExample
from hpo.export.formats import Subject
from hpo.export.forward import first_rows, load_weights_strictly, predictor
from hpo.export.manifest import Check, FormatEntry, GateFacts, MainGoal, Manifest, TensorFacts
from hpo.export.plain import to_json, to_plain
from hpo.export.shapes import BATCH, Axes, input_facts, open_axes, output_facts
from hpo.export.verify import TIMEOUT_S, check_apart, check_tolerance
from hpo.export.weights import weights_sha256
from hpo.training.task import Task
from objectives.base import TrainingObjective

MB = 2**20
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
REASON_CHARACTERS = 500  # torch.onnx explains a failure over pages


def export_model(
    task: Task,
    weights: Mapping[str, Tensor],
    *,
    objective: str,
    params: Mapping[str, Any],
    out: Path,
    formats: Sequence[str] = all_formats.DEFAULT,
    manifest_facts: Mapping[str, Any] | None = None,
    config_yaml: str = "",
    metrics: Mapping[str, Any] | None = None,
    atol: float = 1e-4,
    rtol: float = 1e-3,
    overwrite: bool = False,
    import_from: str | None = None,
    latency: bool = True,
    timeout_s: float = TIMEOUT_S,
    judge: Callable[[Mapping[str, Mapping[str, float]]], Sequence[Verdict]] | None = lambda figures: (),
    about: TrainingObjective | None = None,
    goal: MainGoal | None = None,
    evidence: bytes | None = None,
    use_test: bool = False,
) -> ModelBundle:
    """Write ``weights`` of ``task.model`` as a bundle at ``out`` in the ``formats``.

    ``task.model`` is changed in place: fp32, in eval mode, on the CPU, with these weights.
    The stored inputs are the first rows of the validation split, 64 at most, and a few of
    them cut to half along every open axis. A format that cannot be written, or differs from
    PyTorch by more than ``atol + rtol * |value|`` (one that rounds the model: by more than
    its own ``largest_error``), does not ship; the manifest keeps the reason, and the others
    go on. ``manifest_facts`` (study, trial, seed, data fingerprint, ...) become the
    manifest's ``origin``. ``timeout_s`` is the limit of each format's check. ``judge`` gets
    the figures of every format that ships and answers with the gates' verdicts; a model that
    does not meet them all is written, too, and marked as not released, as is one that
    nobody judges (None). The words of the model's card come from the objective itself
    (``about``); ``goal`` is the test metric that versions will be compared by, and ``evidence`` what
    else of the test set that takes (``hpo.export.evidence``). With ``use_test`` formats that round the
    model are judged on the test set, too: for a model that retraining has read it for.

    Raises:
        BundleError: ``out`` exists and ``overwrite`` is not set, or is not a bundle.
        UnknownName: nobody knows a format.
        UserError: a tolerance is negative or not a number.
        ExportFailed: the weights are another model's, the model and its names do not
            fit, a fact is no JSON value, or no format at all could be released.
    """
    check_tolerance(atol, rtol)
    names = list(dict.fromkeys(formats))
    for name in names:
        all_formats.find(name)
    figures = to_plain(metrics or {}, "metrics")
    origin = to_plain(manifest_facts or {}, "manifest_facts")
    subject, example, axes = _subject(task, weights, objective, params)

    check = partial(check_apart, atol=atol, rtol=rtol, latency=latency, import_from=import_from, timeout_s=timeout_s)

    def fill(folder: Path) -> None:
        example.save(folder)
        if evidence is not None:
            (folder / EVIDENCE).write_bytes(evidence)
        if task.assets is not None:
            (folder / ASSETS).mkdir()
            task.assets(folder / ASSETS)
        entries = _entries(names, task, subject, example, folder, check, use_test)
        proven = {name: entry.figures for name, entry in entries.items() if entry.released and not entry.unverified}
        verdicts = judge(proven) if judge is not None else ()
        manifest = Manifest(
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            objective=objective,
            params=subject.params,
            facts=subject.facts,
            inputs=_with_meanings(input_facts(example, axes), about),
            outputs=_with_meanings(output_facts(example, axes), about),
            atol=atol,
            rtol=rtol,
            formats=entries,
            environment=_environment(),
            origin=origin,
            gates=tuple(map(GateFacts.of, verdicts)),
            released=judge is not None and is_released(verdicts),
            summary="" if about is None else about.summary,
            limits=() if about is None else tuple(about.limits),
            goal=goal,
            weights_sha256=weights_sha256(weights),
        )
        (folder / MANIFEST).write_text(to_json(manifest, "manifest"), "utf-8")
        (folder / METRICS).write_text(to_json(figures, "metrics"), "utf-8")
        (folder / CONFIG).write_text(config_yaml, "utf-8")
        (folder / README).write_text(card(manifest, figures, folder), "utf-8")

    return ModelBundle.write(out, fill, overwrite=overwrite)


def _with_meanings(tensors: Sequence[TensorFacts], about: TrainingObjective | None) -> tuple[TensorFacts, ...]:
    meanings = {} if about is None else about.meanings
    return tuple(one.model_copy(update={"meaning": meanings.get(one.name, "")}) for one in tensors)


def _subject(
    task: Task, weights: Mapping[str, Tensor], objective: str, params: Mapping[str, Any]
) -> tuple[Subject, StoredExample, Mapping[str, Axes]]:
    load_weights_strictly(task.model, weights)
    rows = first_rows(task.validation, ROWS, task.inputs)
    inputs = {name: row.numpy() for name, row in zip(task.inputs, rows, strict=True)}
    axes = open_axes(inputs, task.open_axes)
    example = StoredExample.of(predictor(task.model, task.inputs, task.outputs), inputs, axes)
    subject = Subject(
        model=task.model,
        objective=objective,
        params=to_plain(dict(params), "params", finite=True),
        facts=to_plain(dict(task.facts), "facts", finite=True),
        inputs=tuple(task.inputs),
        outputs=tuple(task.outputs),
        example=tuple(row[:2].clone() for row in rows),
        axes=tuple({0: BATCH, **axes[name]} for name in task.inputs),
    )
    return subject, example, axes


def _entries(
    names: Sequence[str],
    task: Task,
    subject: Subject,
    example: StoredExample,
    folder: Path,
    check: Callable[[Path, str], Check],
    use_test: bool,
) -> dict[str, FormatEntry]:
    """Every format written, loaded back and judged; of those that do not ship nothing is left but the reason.

    Raises:
        ExportFailed: none ships.
    """
    entries = {name: _write(name, subject, folder) for name in names}
    for name, entry in entries.items():
        if entry.released and entry.unverified is None:
            entry = _judged(entry, _beside_eager(check(folder, name), name, subject, example, folder))
            entries[name] = _with_metrics(entry, name, task, subject, folder, use_test)
    for name, entry in entries.items():  # afterwards: the others' speed is measured beside the eager one
        if not entry.released:
            shutil.rmtree(folder / "formats" / name, ignore_errors=True)
    if not any(entry.released for entry in entries.values()):
        reasons = " ".join(f"{name}: {entry.reason}" for name, entry in entries.items())
        raise ExportFailed(f"A bundle must hold at least one format; none could be released. {reasons}")
    return entries


def _write(name: str, subject: Subject, folder: Path) -> FormatEntry:
    """Write one format; whatever it throws is the reason why it does not ship.

    A disk that takes no more is no fault of the format: the bundle as a whole fails then.
    """
    own = folder / "formats" / name
    own.mkdir(parents=True)
    form = all_formats.find(name)
    try:
        form.write(subject, own)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        return FormatEntry(released=False, reason=_short(f"Could not be written: {_said(error)}"))
    files = sorted(file for file in own.rglob("*") if file.is_file())
    return FormatEntry(
        released=True,
        files=tuple(file.relative_to(folder).as_posix() for file in files),
        size_mb=sum(file.stat().st_size for file in files) / MB,
        packages={package: _version(package) for package in form.packages},
        unverified=form.unverified,
    )


def _judged(entry: FormatEntry, check: Check) -> FormatEntry:
    found = {name: getattr(check, name) for name in ("comparison", "relative_error", "latency", "memory_mb")}
    entry = entry.model_copy(update=found)
    return entry if check.reason is None else _withheld(entry, check.reason)


def _withheld(entry: FormatEntry, reason: str) -> FormatEntry:
    return entry.model_copy(update={"released": False, "reason": _short(reason), "files": ()})


def _with_metrics(
    entry: FormatEntry, name: str, task: Task, subject: Subject, folder: Path, use_test: bool
) -> FormatEntry:
    """Of a format that rounds the model: what that does to the metrics of the validation and the test set."""
    form = all_formats.find(name)
    if not entry.released or form.largest_error is None:
        return entry
    try:
        found = shifts(task, subject, form.load(folder / "formats" / name), use_test=use_test)
        return entry.model_copy(update={"metrics": found})
    except Exception as error:  # as when it is written: whatever the model says is a reason
        return _withheld(entry, f"Could not be judged on real data: {_said(error)}")


def _beside_eager(check: Check, name: str, subject: Subject, example: StoredExample, folder: Path) -> Check:
    """Where the files alone cannot rebuild the PyTorch model, measure beside the one in this process."""
    if check.reason is not None or not check.latency or check.latency[0].eager_p50_ms is not None:
        return check
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        predict = all_formats.find(name).load(folder / "formats" / name)
        eager = predictor(subject.model, subject.inputs, subject.outputs)
        return check.model_copy(update={"latency": measure(predict, eager, example, "the exporting process")})
    finally:
        torch.set_num_threads(threads)


def _environment() -> dict[str, str]:
    packages = ("torch", "onnx", "onnxscript", "onnxruntime", "safetensors", "numpy")
    return {
        "hpo": hpo.__version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
        "system": f"{platform.system()} {platform.machine()}",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, ExportFailed) else f"{type(error).__name__}: {error}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= REASON_CHARACTERS else text[: REASON_CHARACTERS - 3] + "..."
