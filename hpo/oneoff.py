"""A study file for a single training run: one trial, one point, no search.

Pure: from what an objective says and what somebody asked for to the text of a study file.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML

from hpo.errors import UnknownName, UserError
from hpo.spec import StudySpec
from hpo.training.settings import TrainerSettings
from objectives.base import Objective, TrainingObjective
from search_spaces.middle import middle
from search_spaces.parameters import Parameter


@dataclass(frozen=True)
class OnePoint:
    """Where a single run trains: parameters, and the trainer settings that are not the objective's own.

    ``assumed`` names the parameters that nobody gave and the objective has no default for.
    """

    params: Mapping[str, Any]
    trainer: Mapping[str, Any] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()


def default_point(objective: Objective, data: Mapping[str, Any], given: Mapping[str, Any]) -> OnePoint:
    """The objective's hand-picked point with ``given`` laid over it.

    A parameter is what stands in ``default_params`` or in the space; every other name of
    ``given`` must be a setting of the trainer. A parameter without a default takes the
    trainer's value where it is a setting of the trainer, else the middle of its range.

    Raises:
        UnknownName: a name is neither a parameter nor a setting.
        UserError: a setting is outside its bounds, or a parameter does not apply here.
    """
    space = objective.space_for(data)
    known = [*objective.default_params, *(name for name in space if name not in objective.default_params)]
    trainer = _layered(objective.default_trainer, _settings(objective, known, given))
    params: dict[str, Any] = {}
    assumed = []
    for name in known:
        if name in space and not space.is_active(name, params):
            if name in given:
                raise UserError(f"--set: {name} exists only when {_spoken(space[name])}; got {given[name]!r}.")
        elif name in given:
            params[name] = given[name]
        elif name in objective.default_params:
            params[name] = objective.default_params[name]
        elif isinstance(objective, TrainingObjective) and name in TrainerSettings.model_fields:
            params[name] = getattr(trainer, name)
        else:
            params[name] = middle(space[name])
            assumed.append(name)
    return OnePoint(params, _own(objective, trainer, params), tuple(assumed))


def point_of(
    objective: Objective, params: Mapping[str, Any], settings: Mapping[str, Any], given: Mapping[str, Any]
) -> OnePoint:
    """The point of a run that was, ``params`` and trainer ``settings``, with ``given`` laid over it.

    Raises:
        UnknownName, UserError: as ``default_point``.
    """
    trainer = _layered(settings, _settings(objective, params, given))
    params = {name: given.get(name, value) for name, value in params.items()}
    return OnePoint(params, _own(objective, trainer, params))


def study_text(
    name: str,
    objective: str,
    point: OnePoint,
    *,
    data: Mapping[str, Any],
    epochs: int,
    seed: int,
    gpus: int = 0,
    runner: str = "inline",
    report: str = "best",
) -> str:
    """The study file of one trial at ``point``; ``seed`` is the study's, and so the data's."""
    document = {
        "name": name,
        "objective": objective,
        "data": dict(data),
        "search_space": {
            parameter: {"type": "categorical", "choices": [value]} for parameter, value in point.params.items()
        },
        "sampler": {"name": "random"},
        "pruner": {"name": "none"},
        "budget": {"trials": 1, "epochs": epochs},
        "seed": seed,
        "report": report,
        "resources": {"gpus": gpus},
        "runner": runner,
        **({"trainer": dict(point.trainer)} if point.trainer else {}),
        "retrain": {"confirm": 0},
    }
    text = io.StringIO()
    text.write("# One training run without a search, as hpo train wrote it down.\n")
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.width = 110
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(document, text)
    StudySpec.parse(text.getvalue(), "hpo train")
    return text.getvalue()


def _settings(objective: Objective, params: Collection[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``given`` that are the trainer's and no parameter."""
    settings = list(TrainerSettings.model_fields) if isinstance(objective, TrainingObjective) else []
    for name in given:
        if name not in params and name not in settings:
            raise UnknownName("parameter or trainer setting", name, {*params, *settings})
    return {name: value for name, value in given.items() if name not in params}


def _layered(*layers: Mapping[str, Any]) -> TrainerSettings:
    try:
        return TrainerSettings.layered(*layers)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        rule = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise UserError(f"--set: {name + ': ' if name else ''}{rule}; got {first['input']!r}.") from None


def _own(objective: Objective, trainer: TrainerSettings, params: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a study file must name: no parameters, and other than the objective's own."""
    usual = TrainerSettings.layered(objective.default_trainer).model_dump(mode="json")
    return {
        name: value
        for name, value in trainer.model_dump(mode="json").items()
        if name not in params and value != usual[name]
    }


def _spoken(parameter: Parameter) -> str:
    return " and ".join(f"{name} is {' or '.join(map(repr, values))}" for name, values in parameter.when)
