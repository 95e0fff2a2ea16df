"""The trainer's settings of a study: the objective's defaults, the file over them, held against the space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hpo.errors import StudyFileError, UserError
from hpo.spec import StudySpec
from hpo.training.extras import check_installed
from hpo.training.schedules import check_warm_up
from hpo.training.settings import WARM_UPS, TrainerSettings
from objectives.base import Objective, TrainingObjective
from search_spaces import Choice, SearchSpace

_SHORT_WARM_UP = 0.1  # of the training


def settle_trainer(spec: StudySpec, objective: Objective, space: SearchSpace) -> TrainerSettings:
    """The settings of every trial, but for what the space decides.

    Raises:
        StudyFileError: a setting is also searched, the space allows an illegal value, a warm-up
            is as long as a training, or a package is missing.
    """
    given = spec.trainer.model_dump(include=spec.trainer.model_fields_set)
    if given and not isinstance(objective, TrainingObjective):
        raise StudyFileError(f"trainer: {spec.objective} does not train with the shared trainer; leave it out.")
    for name in given:
        if name in space:
            raise StudyFileError(f"trainer: {name} is fixed here and searched in the search space; keep one of them.")
    settings = TrainerSettings.layered(_fitting(objective.default_trainer, spec), given)
    if isinstance(objective, TrainingObjective):
        _check_trainer_params(settings, space)
        _check_warm_ups_and_packages(spec, settings, space)
    return settings


def _fitting(defaults: Mapping[str, Any], spec: StudySpec) -> Mapping[str, Any]:
    """An objective's defaults, their warm-up as a share where a training is too short for it.

    What somebody wrote down is refused instead; a default must not stand in the way.
    """
    shortest = min(epochs for epochs in _lengths(spec).values() if epochs is not None)
    if (defaults.get("warmup_epochs") or 0) < shortest:
        return defaults
    return {**defaults, "warmup_epochs": None, "warmup_share": _SHORT_WARM_UP}


def _lengths(spec: StudySpec) -> dict[str, int | None]:
    """The epochs of each kind of training, where the file gives them."""
    return {"budget": spec.budget.epochs, "retrain": spec.retrain.epochs, "validation": spec.validation.epochs}


def _check_trainer_params(settings: TrainerSettings, space: SearchSpace) -> None:
    """A parameter named like a trainer setting is that setting, so its whole range must be legal."""
    for name, parameter in space.items():
        extremes = parameter.choices if isinstance(parameter, Choice) else (parameter.low, parameter.high)
        for value in extremes:
            try:
                settings.with_params({name: value})
            except ValidationError as error:
                rule = error.errors()[0]["msg"].removeprefix("Input ")
                raise StudyFileError(
                    f"search_space: {name} is a setting of the trainer, which {rule}; the space allows {value!r}."
                ) from None


def _check_warm_ups_and_packages(spec: StudySpec, settings: TrainerSettings, space: SearchSpace) -> None:
    """Every warm-up must be shorter than every training, and every optimiser's package be installed."""

    def check(of_a_trial: TrainerSettings, where: str) -> None:
        try:
            check_installed(of_a_trial)
            for part, epochs in _lengths(spec).items():
                if epochs is not None:
                    check_warm_up(of_a_trial, epochs, f"{part}.epochs")
        except UserError as error:
            raise StudyFileError(f"{where}: {error}") from None

    always = [name for name in (*WARM_UPS, "optimizer") if name in space and not space[name].when]
    warm_ups = [name for name in always if name in WARM_UPS]
    if len(warm_ups) > 1:
        raise StudyFileError(f"search_space: a trial has one warm-up; keep one of {', '.join(warm_ups)}.")
    # What every trial takes from the space, it does not take from the settings.
    taken = {*always, *(WARM_UPS if warm_ups else ())}
    own = TrainerSettings.model_validate(settings.model_dump(exclude=taken))
    check(own, "trainer")
    for name in ("warmup_epochs", "optimizer"):
        if name in space:
            parameter = space[name]
            for value in parameter.choices if isinstance(parameter, Choice) else (parameter.high,):
                check(own.with_params({name: value}), "search_space")
