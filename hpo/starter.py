"""``hpo init``: a commented study file for an objective, made from what the objective says."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo.adoption import guessing
from hpo.errors import UserError
from hpo.spec import StudySpec
from objectives import registry
from objectives.base import Objective, TrainingObjective
from objectives.function import FunctionObjective

EPOCHS = 20


def study_file(name: str, folder: str = ".") -> str:
    """The text of a study file that runs as it is; for a function, with guesses where it does not say.

    Raises:
        UserError: there is no such objective, or nothing to guess from.
    """
    objective = registry.find(name, folder)
    if isinstance(objective, FunctionObjective):
        found = guessing.complete(objective)
        return _text(name, found.objective, found.remarks, found.epochs or EPOCHS, found.others)
    return _text(name, objective, {}, EPOCHS, [m for m in objective.metrics if m not in objective.default_goals])


def adopted_file(target: str) -> tuple[str, Path]:
    """The study file for ``FILE.py:function``, and the folder that it belongs into: that of FILE.py.

    Raises:
        UserError: the file or the function cannot be used, or there is nothing to guess from.
    """
    file, _, function = target.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not function:
        raise UserError(f"Name a function as FILE.py:function, such as train.py:train; got {target!r}.")
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    folder = path.resolve().parent
    known = importlib.util.find_spec(path.stem)
    if known is not None and known.origin != str(path.resolve()):
        raise UserError(f"Python knows another module called {path.stem!r} ({known.origin}); rename {path}.")
    return study_file(f"{path.stem}:{function}", str(folder)), folder


def _text(name: str, objective: Objective, remarks: Mapping[str, str], epochs: int, others: Sequence[str]) -> str:
    parts = (_head(name, objective, remarks, others), _space(objective, remarks), _tail(objective, epochs))
    text = "\n".join(line for part in parts for line in part) + "\n"
    StudySpec.parse(text, "the file that hpo made")
    return text


def _head(name: str, objective: Objective, remarks: Mapping[str, str], others: Sequence[str]) -> list[str]:
    lines = [
        f"# {objective.summary}",
        f"name: {_study_name(name, objective)}",
        f"objective: {name}",
        f"data: {_flow(dict(objective.default_data))}",
        "goals:  # one or more; with several, a Pareto front is searched",
    ]
    for metric in objective.default_goals:
        goal = f"  - {{metric: {metric}, direction: {objective.metrics[metric].direction}}}"
        lines.append(goal + _remark(remarks.get(metric)))
    return [*lines, f"#   others: {', '.join(others)}"] if others else lines


def _study_name(name: str, objective: Objective) -> str:
    """That of the class; of a function, which is mostly called train, the module's."""
    module, _, last = name.rpartition(":")
    given = module.rpartition(".")[2] if isinstance(objective, FunctionObjective) else last
    return given.lower().replace("_", "-")


def _space(objective: Objective, remarks: Mapping[str, str]) -> list[str]:
    lines = ["search_space:  # float, int or categorical; log, step and when are optional"]
    return lines + [
        f"  {name}: {_flow(fields)}{_remark(remarks.get(name))}" for name, fields in objective.space.to_dict().items()
    ]


def _remark(text: str | None) -> str:
    return "" if text is None else f"  # {text}"


def _pruner(objective: Objective) -> dict[str, Any]:
    if len(objective.default_goals) > 1:
        return {"name": "any", "of": [{"name": "pareto_median", "keep": 0.8}, {"name": "hopeless"}]}
    watch = next((m for m in objective.default_goals if not objective.metrics[m].once), None)
    return {"name": "median", "startup_trials": 5, "warmup_steps": 2, **({"watch": watch} if watch else {})}


def _tail(objective: Objective, epochs: int) -> list[str]:
    lines = [
        "sampler: {name: tpe}  # gp, grid, nsga2, nsga3, qmc, random, tpe",
        f"pruner: {_flow(_pruner(objective))}  # or none, successive_halving, pareto_asha, ...",
        f"budget: {{trials: 30, epochs: {epochs}}}  # timeout: 30m limits one launch",
        "seed: 0",
        "concurrency: 2  # trials in flight",
        "resources: {cpus: 1, gpus: 0}  # of each trial",
        "runner: inline  # or ray: several trials at once",
    ]
    if isinstance(objective, TrainingObjective) and objective.default_trainer:
        trainer = {k: v for k, v in objective.default_trainer.items() if k not in objective.space}
        lines.append(f"trainer: {_flow(trainer)}")
    if objective.default_params:
        point = {k: v for k, v in objective.default_params.items() if k in objective.space}
        lines.append(f"enqueue: [{_flow(point)}]  # tried first: what people pick by hand")
    lines.append("retrain: {pick: knee, seeds: [0, 1, 2], confirm: 3}")
    if isinstance(objective, TrainingObjective):
        lines.append("export: {formats: [onnx, safetensors]}")
    return lines


def _flow(value: Any) -> str:
    """A value on one line of YAML; JSON is YAML, only with fewer quotes needed."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str) and value.replace("_", "").replace("-", "").isalnum() and not value[0].isdigit():
        return value if value not in ("true", "false", "null", "yes", "no", "on", "off") else json.dumps(value)
    return json.dumps(value)
