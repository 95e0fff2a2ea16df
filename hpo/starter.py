"""``hpo init``: a commented study file for an objective, made from what the objective says."""

from __future__ import annotations

import json
from typing import Any

from hpo.spec import StudySpec
from objectives import registry
from objectives.base import Objective, TrainingObjective


def study_file(name: str) -> str:
    """The text of a study file that runs as it is.

    Raises:
        UserError: there is no such objective.
    """
    objective = registry.find(name, ".")
    text = "\n".join([*_head(name, objective), *_space(objective), *_tail(objective)]) + "\n"
    StudySpec.parse(text, "the file that hpo init made")
    return text


def _head(name: str, objective: Objective) -> list[str]:
    lines = [
        f"# {objective.summary}",
        f"name: {name.rpartition(':')[2].lower().replace('_', '-')}",
        f"objective: {name}",
        f"data: {_flow(dict(objective.default_data))}",
        "goals:  # one or more; with several, a Pareto front is searched",
    ]
    for metric in objective.default_goals:
        lines.append(f"  - {{metric: {metric}, direction: {objective.metrics[metric].direction}}}")
    others = [m for m in objective.metrics if m not in objective.default_goals]
    return [*lines, f"#   others: {', '.join(others)}"] if others else lines


def _space(objective: Objective) -> list[str]:
    lines = ["search_space:  # float, int or categorical; log, step and when are optional"]
    return lines + [f"  {name}: {_flow(fields)}" for name, fields in objective.space.to_dict().items()]


def _pruner(objective: Objective) -> dict[str, Any]:
    if len(objective.default_goals) > 1:
        return {"name": "any", "of": [{"name": "pareto_median", "keep": 0.8}, {"name": "hopeless"}]}
    watch = next((m for m in objective.default_goals if not objective.metrics[m].once), None)
    return {"name": "median", "startup_trials": 5, "warmup_steps": 2, **({"watch": watch} if watch else {})}


def _tail(objective: Objective) -> list[str]:
    lines = [
        "sampler: {name: tpe}  # gp, grid, nsga2, nsga3, qmc, random, tpe",
        f"pruner: {_flow(_pruner(objective))}  # or none, successive_halving, pareto_asha, ...",
        "budget: {trials: 30, epochs: 20}  # timeout: 30m limits one launch",
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
