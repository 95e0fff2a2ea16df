"""What is looked at before the first update, so that a mistake costs a second and not an epoch.

``fit_once`` of ``fitting`` is asked at the start of every trial, ``preflight`` once for a study.
What it looks at in the data stands in ``data``, what it reckons in ``estimate``, ``outlined`` and ``timing``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from hpo.errors import TrialFailed
from hpo.training.batches import Batch, Loading, check_accumulation, make_batches
from hpo.training.blocks import checkpointed_blocks
from hpo.training.checks.data import Fault, Told, check_batches, check_samples, class_count, reason
from hpo.training.checks.dry_run import DryRuns
from hpo.training.checks.estimate import (
    MemoryEstimate,
    available_mb,
    data_mb,
    judge_memory,
    memory_of,
    with_activations,
)
from hpo.training.checks.findings import Finding, Preflight, Result
from hpo.training.checks.fitting import fit_once
from hpo.training.checks.outlined import estimate_outline, outline_of
from hpo.training.checks.timing import estimate_time, spoken_time
from hpo.training.checks.ways import ways_out
from hpo.training.device_lock import DeviceLock
from hpo.training.evaluate import eval_mode
from hpo.training.meters import Subject
from hpo.training.process import process_state, release_memory
from hpo.training.recovery import is_out_of_memory
from hpo.training.schedules import Schedule
from hpo.training.settings import TrainerSettings
from hpo.training.task import Outline, Task
from hpo.training.update import Updater
from hpo.trial import derive_seed

CHECKS = ("device", "task", "batches", "samples", "shapes", "gradients", "memory", "time")
_NAMED = 3  # parameters that a message names
# fp16 scales its gradients up; a scale too large makes them infinite, and training lowers it by and by.
_FP16_SCALES = (2.0**16, 2.0**10, 2.0**4, 1.0)


@dataclass(frozen=True)
class Extent:
    """How a study is run, as far as it decides what it takes.

    ``trials`` None: as many as the time allows. ``gpus`` is a trial's share of GPUs.
    With ``device_mb`` the memory alone is reckoned, for a GPU that has so much and need not be here.
    """

    epochs: int
    trials: int | None = None
    workers: int = 1
    gpus: float = 0
    device_mb: float | None = None


def preflight(
    build: Callable[[], Task],
    settings: TrainerSettings,
    extent: Extent,
    *,
    seed: int = 0,
    deterministic: bool = False,
    outline: Callable[[], Outline | None] = lambda: None,
) -> Preflight:
    """Every check on the task that ``build`` makes, on the device that a trial of ``extent`` would get.

    Where ``outline`` gives one, a model that cannot fit is never built.

    Works on a copy of the model, with a fresh optimiser and generators of its own: what
    later runs in this process is not changed by it. Never raises for what is wrong with
    the task; that is a finding.
    """
    device = torch.device("cuda" if extent.gpus > 0 and torch.cuda.is_available() else "cpu")
    seeded = derive_seed(seed, "preflight")
    try:
        with (
            process_state(device, seed=seeded, deterministic=deterministic, threads=settings.threads),
            DeviceLock(device) as lock,
            ExitStack() as stack,
        ):
            return _Flight(settings, extent, device, seed, lock.pause_if_wanted, stack).run(build, outline)
    finally:
        release_memory(device)


class _Flight:
    """One pre-flight: what is known so far, and the findings."""

    task: Task
    updater: Updater
    batch: Batch

    def __init__(
        self,
        settings: TrainerSettings,
        extent: Extent,
        device: torch.device,
        seed: int,
        between: Callable[[], None],
        stack: ExitStack,
    ) -> None:
        self.settings, self.extent, self.device, self.seed = settings, extent, device, seed
        self._between, self._stack = between, stack
        self._findings: dict[str, Finding] = {}
        self._available_mb = extent.device_mb or available_mb(device, extent.gpus)  # before the model takes its part
        self._judged_for = torch.device("cuda") if extent.device_mb else device

    def run(self, build: Callable[[], Task], outline: Callable[[], Outline | None]) -> Preflight:
        if self.extent.device_mb is not None:
            self._do("memory", lambda: self._estimated(outline() or outline_of(build())))
            return self._found()
        if self.extent.gpus > 0 and self.device.type == "cpu":
            told = f"resources.gpus is {self.extent.gpus:g}, but torch sees no GPU here; the CPU stood in for it."
            self._findings["device"] = Finding("device", Result.WARNING, told)
        self._do("memory", lambda: self._outlined(outline))
        if self._findings["memory"].result is Result.FAILED:
            others = [name for name in CHECKS if name not in self._findings and name != "device"]
            self._skip(others, "the model cannot be had")
            return self._found()
        self._do("task", lambda: self._build(build))
        self._do("batches", self._batches, "task")
        self._do("samples", self._samples, "task")
        self._do("memory", self._counted, "task")
        if self._findings["memory"].details.get("share", 0.0) > 1:  # trying it could take the machine down
            self._skip(("shapes", "gradients", "time"), "the model does not fit into memory")
        else:
            self._do("shapes", self._shapes, "task", "batches")
            self._do("gradients", self._gradients, "shapes")
            self._do("memory", self._measured, "gradients")
            self._do("time", self._time, "gradients", "memory", "samples")
        return self._found()

    def _found(self) -> Preflight:
        return Preflight(tuple(self._findings[name] for name in CHECKS if name in self._findings))

    def _do(self, name: str, check: Callable[[], Told | Finding], *needs: str) -> None:
        """Run one check; whatever it raises is its finding."""
        for need in needs:
            if self._findings[need].result in (Result.FAILED, Result.SKIPPED):
                self._skip((name,), f"{need} failed")
                return
        self._between()
        told: Told | Finding
        try:
            told = check()
        except Fault as fault:
            told = Finding(name, Result.FAILED, _sentence(str(fault)), fault.details)
        except (Exception, SystemExit) as error:  # other people's code may raise anything
            told = Finding(name, Result.FAILED, _sentence(_out_of_memory(error) or reason(error)))
        self._findings[name] = _finding(name, told) if isinstance(told, Told) else told

    def _skip(self, names: Sequence[str], why: str) -> None:
        for name in names:
            self._findings[name] = Finding(name, Result.SKIPPED, f"not looked at, because {why}.")

    # The checks, in the order in which they run

    def _outlined(self, outline: Callable[[], Outline | None]) -> Told | Finding:
        """The memory of a model before it exists."""
        found = outline()
        return Told("counted once the model is there") if found is None else self._estimated(found)

    def _estimated(self, outline: Outline) -> Finding:
        """The memory of an update that is not made, and where there is not enough what would do."""
        settings, device = self.settings, self._judged_for
        try:
            runs = DryRuns(outline) if outline.sample else None
            estimate = estimate_outline(outline, settings, device, runs)
        except Exception as error:  # some models cannot be gone through in shapes alone
            counted = self._judged(memory_of(outline.model, settings))
            return replace(counted, message=f"{counted.message} Activations are not in it: {reason(error)}.")
        finding = self._judged(estimate)
        if runs is None or self._available_mb is None or finding.details["share"] <= 1:
            return finding
        ways = ways_out(outline, settings, device, self._available_mb, runs)
        finding = self._judged(estimate, least_mb=ways.one_row_mb, way_out=str(ways))
        return replace(finding, details={**finding.details, "ways": asdict(ways)})

    def _build(self, build: Callable[[], Task]) -> Told:
        self.task = task = build()
        if not isinstance(task, Task):
            raise Fault(f"task(job) must return a Task; it returned a {type(task).__name__}")
        self._stack.enter_context(checkpointed_blocks(task.blocks, wanted=self.settings.gradient_checkpointing))
        weights = sum(parameter.numel() for parameter in task.model.parameters())
        trainable = sum(parameter.numel() for parameter in task.model.parameters() if parameter.requires_grad)
        if trainable == 0:
            raise Fault("the model has no parameter to train; give at least one requires_grad")
        frozen = f", {weights - trainable:,} of them frozen" if trainable < weights else ""
        details = {"parameters": weights, "trainable": trainable, "samples": len(task.train)}
        return Told(
            f"a model of {weights:,} weights{frozen}; {len(task.train)} training and {len(task.validation)} "
            "validation samples",
            details=details,
        )

    def _batches(self) -> Told:
        samples, settings = len(self.task.train), self.settings
        check_accumulation(samples, settings)
        if samples:
            updates = math.ceil(math.ceil(samples / settings.batch_size) / settings.accumulation)
            Schedule.over(settings, epochs=self.extent.epochs, updates_per_epoch=updates)  # refuses too long a warm-up
        return check_batches(self.task.train, self.settings.batch_size, self.seed, self._classes)

    @cached_property
    def _classes(self) -> int | None:
        """How many classes the output of ``example`` has for the first sample's target."""
        data = self.task.train.data
        try:
            target = data[-1][:1] if isinstance(data, tuple) else torch.as_tensor(data[0][-1])[None]
            with eval_mode(self.task.model), torch.no_grad():
                output = self.task.model(*self.task.example)
            return class_count(output, target) if isinstance(output, Tensor) else None
        except Exception:  # what is wrong is told by the check that it belongs to
            return None

    def _samples(self) -> Told:
        said, faults = [], []
        for name, split in (("training", self.task.train), ("validation", self.task.validation)):
            seed = derive_seed(self.seed, "samples", name)
            try:
                looked = check_samples(split, name, self.settings.batch_size, seed, self._classes)
                said.append(f"{looked} {name} samples")
            except Fault as fault:
                faults.append(fault)
        if faults:
            raise Fault("; ".join(map(str, faults)), **faults[0].details)
        return Told(f"{' and '.join(said)} can be loaded and are finite")

    def _shapes(self) -> Told:
        settings, task = self.settings, self.task
        self.train = make_batches(
            task.train, "training", settings.batch_size, self.device,
            seed=self.seed, shuffle=True, loading=Loading.of(settings),
        )  # fmt: skip
        self.updater = Subject(task, self.train, settings, self.device).updater()
        self.updater.model.to(self.device)  # in place, so the optimiser keeps its parameters
        self.batch = next(iter(self.train.epoch(1)))
        on_copy = replace(task, model=self.updater.model)
        try:
            shapes, loss = fit_once(on_copy, self.batch, self.updater.precision)
        except TrialFailed as error:
            raise Fault(_out_of_memory(error.__cause__) or f"training batch 1: {error}") from error
        if not math.isfinite(loss):
            raise Fault(
                f"the loss of training batch 1 is {loss} before any update ({shapes}). "
                "Look at the loss function and at what the model does to its inputs"
            )
        return Told(f"{shapes}, loss {loss:.4g}", details={"loss": loss})

    def _gradients(self) -> Told:
        updater = self.updater
        named = {name: p for name, p in updater.model.named_parameters() if p.requires_grad}
        loss = _backward(updater, self.batch)
        if not math.isfinite(loss):
            raise Fault(f"the loss of training batch 1 is {loss} in training mode. Look at the loss and the model")
        grads = {name: _values(parameter) for name, parameter in named.items()}
        updater.clear()
        without = [name for name, grad in grads.items() if grad is None]
        if without:
            raise Fault(
                f"no gradient reaches {_listed(without, len(named))}. Use them in forward, "
                "or set requires_grad=False for what shall stay",
                parameters=without,
            )
        infinite = [name for name, grad in grads.items() if grad is not None and not torch.isfinite(grad).all()]
        if infinite:
            raise Fault(
                f"the gradient is NaN or infinite in {_listed(infinite, len(named))}. Look for a division, a "
                "logarithm or a root at 0",
                parameters=infinite,
            )
        zero = [name for name, grad in grads.items() if grad is not None and not grad.any()]
        warnings = [f"the gradient is 0 everywhere in {_listed(zero, len(named))}: it begins at 0, or is cut off"]
        return Told(
            f"the loss has a finite gradient for all {len(named)} trainable parameters",
            warnings if zero else [],
            {"zero": zero} if zero else {},
        )

    def _counted(self) -> Finding:
        """What can be known of the memory before anything is put on the device."""
        return self._judged(replace(memory_of(self.task.model, self.settings), data_mb=self._data_mb))

    def _measured(self) -> Finding:
        self.updater.update([self.batch])  # the optimiser's state exists from then on
        share = math.ceil(len(self.batch[-1]) / self.settings.devices)  # of each device
        piece = tuple(part[:share] for part in self.batch)
        counted = memory_of(self.task.model, self.settings)
        estimate = with_activations(counted, self.updater, piece, accumulation=self.settings.accumulation)
        self.updater.clear()
        return self._judged(replace(estimate, data_mb=self._data_mb))

    @property
    def _data_mb(self) -> float:
        return data_mb((self.task.train, self.task.validation), self.device)

    def _judged(
        self, estimate: MemoryEstimate, *, least_mb: float | None = None, way_out: str | None = None
    ) -> Finding:
        available, kind = self._available_mb, self._judged_for.type
        # Of a GPU each process has its own share already.
        at_once = self.extent.workers * self.settings.devices if kind == "cpu" else 1
        result, told = judge_memory(estimate, available, kind, at_once, least_mb=least_mb, way_out=way_out)
        details: dict[str, Any] = {
            **asdict(estimate),
            "total_mb": estimate.total_mb,
            "available_mb": available,
            "trials": at_once,
        }
        if available:
            details["share"] = estimate.total_mb * at_once / available
        return Finding("memory", result, told, details)

    def _time(self) -> Told:
        settings, extent = self.settings, self.extent
        validation = make_batches(
            self.task.validation, "validation", settings.eval_batch_size or 4 * settings.batch_size, self.device,
            loading=Loading.of(settings),
        )  # fmt: skip
        found = estimate_time(self.updater, self.train, validation, settings.accumulation)
        told = (
            f"{spoken_time(found.epoch_s)} an epoch ({found.updates} updates of {spoken_time(found.update_s)}, "
            f"validation {spoken_time(found.validation_s)}), {spoken_time(found.epoch_s * extent.epochs)} a trial"
        )
        details = {"update_s": found.update_s, "updates": found.updates, "epoch_s": found.epoch_s}
        if extent.trials is not None:
            study_s = details["study_s"] = found.study_s(extent.epochs, extent.trials, extent.workers)
            told += (
                f"; the study at most {spoken_time(study_s)} ({extent.trials} trials of {extent.epochs} epochs, "
                f"{extent.workers} at once), if all are like this one; pruning and early stopping make it less"
            )
        return Told(told, details=details)


def _backward(updater: Updater, batch: Batch) -> float:
    """The gradients of one batch, with fp16 at a scale that keeps them finite; its loss."""
    loss = updater.backward([batch]).item()
    scaler = updater.precision.scaler
    if scaler is None or not math.isfinite(loss):
        return loss
    for scale in _FP16_SCALES:
        grads = [p.grad for p in updater.model.parameters() if p.grad is not None]
        if all(bool(torch.isfinite(grad).all()) for grad in grads):
            break
        updater.clear()
        scaler.update(scale)
        updater.backward([batch])
    return loss


def _out_of_memory(error: BaseException | None) -> str | None:
    if error is None or not is_out_of_memory(error):
        return None
    way = "Halve batch_size and double accumulation, or set precision to bf16 or gradient_checkpointing"
    return f"memory ran out ({reason(error)}). {way}"


def _values(parameter: nn.Parameter) -> Tensor | None:
    """A parameter's gradient, of a sparse one the rows that it has."""
    grad = parameter.grad
    return grad.coalesce().values() if grad is not None and grad.is_sparse else grad


def _listed(names: Sequence[str], of: int) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} of {of} trainable parameters ({', '.join(names[:_NAMED])}{more})"


def _finding(name: str, told: Told) -> Finding:
    if not told.warnings:
        return Finding(name, Result.OK, _sentence(told.message), told.details)
    message = f"{_sentence('; '.join(told.warnings))} {_sentence(told.message)}"
    return Finding(name, Result.WARNING, message, told.details)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."
