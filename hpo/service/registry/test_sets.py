"""The test set that a bundle's model was judged on, built again from the bundle's own study file; and a shipped
model asked about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo.errors import HpoError, UserError
from hpo.evaluation.intervals import JudgeOfRows, judge_of_rows
from hpo.export.bundle import ASSETS, CONFIG, ModelBundle, read_checksums
from hpo.export.manifest import Manifest, TensorFacts
from hpo.spec import StudySpec
from hpo.training.settings import TrainerSettings
from hpo.trial import Goal, Job
from objectives import registry
from objectives.base import TrainingObjective, facts_of
from storage.records import RETRAIN

if TYPE_CHECKING:
    from hpo.training.task import Split, Task

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class TestSet:
    """The test set of a bundle, with the task that it belongs to; its data is what it was."""

    __test__ = False  # no test of pytest's

    objective: TrainingObjective
    data: Mapping[str, Any]
    data_seed: int
    task: Task
    split: Split

    @classmethod
    def of(cls, bundle: ModelBundle, import_from: str | None) -> TestSet:
        """Build it again.

        Raises:
            UserError: the bundle does not say how, its objective cannot be found, or its data cannot be read
                or is no longer what it was.
        """
        manifest = bundle.manifest
        objective = registry.find(manifest.objective, import_from)
        if not isinstance(objective, TrainingObjective):
            raise UserError(f"{manifest.objective} has no test set that could be built again")
        spec = StudySpec.parse((bundle.folder / CONFIG).read_text("utf-8"), CONFIG)
        data = {**objective.default_data, **(spec.data or {})}
        known, now = manifest.origin.get("data_fingerprint"), facts_of(objective, data).fingerprint
        if known != now:
            raise UserError(f"the data is no longer what it was (fingerprint {now[:12]}, was {str(known)[:12]})")
        seed = int(manifest.origin.get("data_seed", spec.seed))
        task = objective.task(_job(manifest, data, seed, import_from))
        if task.test is None:
            raise UserError("there is no test set")
        return cls(objective, data, seed, task, task.test())

    @cached_property
    def ids(self) -> Array | None:
        """(n,) texts, the ids by which the objective's ``split_ids`` knows the rows; None where it does not."""
        given = self.split.ids if self.split.ids is not None else self.split.clusters
        if given is None:
            return None
        ids = np.asarray(given).astype(np.str_)
        known = self.objective.split_ids(self.data, self.data_seed).get("test", ())
        return ids if set(ids.tolist()) <= set(known) else None

    @property
    def groups(self) -> Array | None:
        """(n,) texts, ids of rows that belong together, as far as they are known."""
        return self.ids if self.split.clusters is None else np.asarray(self.split.clusters).astype(np.str_)

    @property
    def size(self) -> int:
        return len(self.split)

    def kind(self, targets: Array) -> str:
        """What the task's outputs are, given their targets."""
        from hpo.export.asking import kind_of

        return kind_of(self.task, targets)

    def unseen(self, data_seed: int) -> Array | None:
        """The rows that a model of another ``data_seed`` has not learnt from, nor was chosen by; None: not known."""
        if data_seed == self.data_seed:
            return np.arange(self.size)
        if self.ids is None:
            return None
        parts = self.objective.split_ids(self.data, data_seed)
        return np.flatnonzero(np.isin(self.ids, parts["test"]))

    @property
    def judge(self) -> JudgeOfRows | None:
        """The test set's own metrics of some rows, and its loss where that can be taken of kept outputs."""
        metrics = judge_of_rows(self.split)
        if self.task.keep is not None:
            return metrics
        from hpo.export.asking import loss_of

        def judge(outputs: Array, targets: Array, rows: Array) -> dict[str, float]:
            loss = loss_of(self.task, outputs, targets)
            return {"test_loss": loss, **(metrics(outputs, targets, rows) if metrics is not None else {})}

        return judge


def why_another(old: ModelBundle, new: ModelBundle, objective: TrainingObjective) -> str | None:
    """Why the inputs or outputs of ``old`` are not those of ``new``; None where they are."""
    for what in ("inputs", "outputs"):
        was, now = _forms(getattr(old.manifest, what)), _forms(getattr(new.manifest, what))
        if was != now:
            return f"their {what} are not alike: {_told(was)} and {_told(now)}"
    before, after = old.manifest.facts, new.manifest.facts
    shared = objective.shared_facts
    names = sorted(before.keys() | after.keys()) if shared is None else sorted(shared)
    other = [name for name in names if before.get(name) != after.get(name)]
    if other:
        return f"what their inputs and outputs mean is not the same: {', '.join(other)} differ"
    return None if same_assets(old, new) else "what prepares their inputs (a tokenizer, for one) is not the same"


def same_assets(old: ModelBundle, new: ModelBundle) -> bool:
    """Whether what ships for preparing inputs is the same, byte by byte."""
    return _assets(old) == _assets(new)


def ask(bundle: ModelBundle, test: TestSet) -> tuple[Array, Array]:
    """What a shipped model says about the test set, as a trial keeps it: outputs and targets, (n, ...) each.

    By ONNX where that ships, else by another format that equals PyTorch, else by one that rounds; never by
    one that is a program. What the task's metrics take beyond what ships is NaN.

    Raises:
        HpoError: no format can be run here.
    """
    from hpo.export.asking import asked
    from hpo.export.formats import find

    shipped = [name for name, entry in bundle.manifest.formats.items() if entry.released and entry.unverified is None]
    names = [name for name in shipped if not find(name).is_program]
    names.sort(key=lambda name: (name != "onnx", find(name).largest_error is not None))
    reasons = [f"{name} is a program, which is not run unasked" for name in shipped if name not in names]
    for name in names:
        try:
            return asked(find(name).load(bundle.folder / "formats" / name), test.task, test.split)
        except Exception as error:  # whatever a format does is a reason to take the next
            reasons.append(f"{name}: {error}")
    raise HpoError(f"no format of it can be run here: {'; '.join(reasons) or 'none ships'}")


def _job(manifest: Manifest, data: Mapping[str, Any], data_seed: int, import_from: str | None) -> Job:
    """A job whose task has the test set; nothing is trained with it."""
    origin, goal = manifest.origin, manifest.goal
    goals = () if goal is None else (Goal(goal.metric, goal.direction),)
    return Job(
        study=str(origin.get("study", "")), series=RETRAIN, number=0, objective=manifest.objective,
        params=dict(manifest.params), data=dict(data), trainer=TrainerSettings(), goals=goals,
        monitor=goals[0] if goals else Goal("val_loss"), seed=int(origin.get("seed", 0)), data_seed=data_seed,
        epochs=1, folder="", use_test=True, import_from=import_from,
    )  # fmt: skip


def _forms(tensors: tuple[TensorFacts, ...]) -> list[TensorFacts]:
    return [tensor.model_copy(update={"meaning": ""}) for tensor in tensors]


def _told(tensors: list[TensorFacts]) -> str:
    return ", ".join(f"{one.name} {one.dtype} ({', '.join(map(str, one.shape))})" for one in tensors)


def _assets(bundle: ModelBundle) -> dict[str, str]:
    sums = read_checksums(bundle.folder)
    return {name: sums[name] for name in sums if name.startswith(f"{ASSETS}/")}
