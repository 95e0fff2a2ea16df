"""StudySpec: what a study is, as one YAML document. Its form is checked here, names are not.

Whether an objective, a sampler or a metric of some name exists is known further up, in
``hpo.service``; this file knows only what a study file may look like.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from hpo import places
from hpo.errors import SpaceError, StudyFileError, UnknownName, UserError
from hpo.masking import masked
from hpo.training.settings import Duration, TrainerSettings
from hpo.trial import Direction
from search_spaces import SearchSpace


def _whole(value: object) -> object:
    """Refuse 2.5 and true where a count is wanted; pydantic would take 2.0 and '2'."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")
    return value


Count = Annotated[int, BeforeValidator(_whole)]


def _checked_place(text: str | None) -> str | None:
    if text is not None:
        try:
            places.parse(text)
        except UserError as error:
            raise ValueError(str(error)) from None
    return text


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GoalSpec(_Part):
    """A goal as written; without a direction, the objective's own for that metric."""

    metric: str
    direction: Direction | None = None


class Named(BaseModel):
    """A sampler or pruner by name; further fields are its options."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Budget(_Part):
    """How much may be spent. Without ``trials`` only the ``timeout`` (seconds) ends a launch."""

    trials: Count | None = Field(default=None, ge=1)
    epochs: Count = Field(default=20, ge=1)
    timeout: Duration | None = None

    @model_validator(mode="after")
    def _is_limited(self) -> Budget:
        if self.trials is None and self.timeout is None:
            raise ValueError("a budget needs trials, a timeout, or both")
        return self


class Resources(_Part):
    """What one trial gets."""

    cpus: float = Field(default=1, gt=0, allow_inf_nan=False)
    gpus: float = Field(default=0, ge=0, allow_inf_nan=False)


class WarmStart(_Part):
    """An earlier study (of another database with ``storage``) whose best points come first.

    A value outside the new space is moved to its nearest bound (``clip``), or its point is
    left out (``drop``).
    """

    study: str
    storage: str | None = None
    top: Count = Field(default=10, ge=1)
    outside: Literal["clip", "drop"] = "clip"


class StopSpec(_Part):
    """When a search ends before its budget is spent.

    ``no_improvement``: so many finished trials in a row without a better best value (with
    several goals: without a larger hypervolume). ``target``: a completed trial is at least
    as good in each of these goals. ``hours`` of work, summed over all trials.
    """

    no_improvement: Count | None = Field(default=None, ge=1)
    target: dict[str, float] = {}
    hours: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Limits(_Part):
    """What a single trial may take before it is ended from outside, even one that hangs.

    ``time`` is wall-clock, in all its attempts; ``silence`` the time between two reports.
    ``failures`` is how often a trial that failed is taken up again from its checkpoint.
    """

    time: Duration | None = None
    silence: Duration | None = None
    failures: Count = Field(default=0, ge=0)


class RetrainSpec(_Part):
    """How a winner is named and trained again.

    ``confirm`` trials of the front are run again with fresh seeds before one is picked;
    ``epochs`` None means the search's own number.
    """

    pick: str | dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = "knee"
    seeds: list[Annotated[Count, Field(ge=0, lt=2**32)]] = Field(default=[0, 1, 2], min_length=1)
    epochs: Count | None = Field(default=None, ge=1)
    confirm: Count = Field(default=3, ge=0)
    confirm_seeds: Count = Field(default=2, ge=1)

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("seeds must differ from each other")
        return seeds


class ValidationSpec(_Part):
    """How ``hpo validate`` cross-validates; None leaves the study's own epochs and patience."""

    folds: Count = Field(default=5, ge=2)
    epochs: Count | None = Field(default=None, ge=1)
    patience: Count | None = Field(default=None, ge=1)


class GateSpec(_Part):
    """A threshold that a model must meet to be released.

    ``over`` says where ``metric`` is looked up: in the shipped model's figures on the
    ``test`` set, in each of its ``groups`` there, over the ``folds`` of cross-validation
    (then ``statistic`` says which figure of them), in the ``run`` that trained it, or in
    the ``export``'s figures (every format must meet it).
    """

    metric: str
    over: Literal["test", "groups", "folds", "run", "export"] = "test"
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    at_most: float | None = Field(default=None, allow_inf_nan=False)
    statistic: Literal["mean", "std", "min", "max"] | None = None
    name: str | None = None

    @model_validator(mode="after")
    def _has_one_bound(self) -> GateSpec:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a gate needs either at_least or at_most")
        if self.statistic is not None and self.over != "folds":
            raise ValueError("only a gate over folds has a statistic")
        return self


class ArtifactsSpec(_Part):
    """What is kept of each ended trial besides its numbers: its log and a picture of its curves.

    ``place`` is a folder or ``s3://BUCKET/PREFIX``; None is the folder ``artifacts`` in the study's own.
    """

    place: str | None = None
    pictures: bool = True

    @field_validator("place")
    @classmethod
    def _is_a_place(cls, place: str | None) -> str | None:
        return _checked_place(place)


def _trackers(value: object) -> object:
    """One tracker or several, each by its name or as a mapping with its options."""
    listed = value if isinstance(value, list) else [value]
    return [{"name": each} if isinstance(each, str) else each for each in listed]


class ExportSpec(_Part):
    """Formats to ship, and how far each may differ from PyTorch: atol + rtol·|value|.

    ``evidence``: whether what the model said about the test set ships with it.
    """

    formats: list[str] = Field(default=["onnx", "safetensors"], min_length=1)
    atol: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    rtol: float = Field(default=1e-3, ge=0, allow_inf_nan=False)
    evidence: bool = True


class StudySpec(_Part):
    """One study, as its YAML file describes it. See docs/study-file.md for every field."""

    name: str
    objective: str
    data: dict[str, Any] | None = None
    goals: list[GoalSpec] | None = Field(default=None, min_length=1)
    search_space: str | dict[str, Any] | None = None
    sampler: Named = Named(name="tpe")
    pruner: Named = Named(name="none")
    constraints: list[str] = []
    warm_start: WarmStart | None = None
    stop: StopSpec = StopSpec()
    limits: Limits = Limits()
    budget: Budget
    seed: Count = Field(default=0, ge=0, lt=2**32)
    concurrency: Count = Field(default=1, ge=1)
    deterministic: bool = False
    report: Literal["best", "last"] = "best"
    resources: Resources = Resources()
    runner: str = "inline"
    trainer: TrainerSettings = TrainerSettings()
    enqueue: list[dict[str, Any]] = []
    health: dict[str, float | bool] = {}
    mirror: str | None = None
    artifacts: ArtifactsSpec = ArtifactsSpec()
    tracking: Annotated[list[Named], BeforeValidator(_trackers)] = []
    baselines: list[str] | None = None
    validation: ValidationSpec = ValidationSpec()
    gates: list[GateSpec] = []
    retrain: RetrainSpec = RetrainSpec()
    export: ExportSpec = ExportSpec()

    @field_validator("name")
    @classmethod
    def _is_a_file_name(cls, name: str) -> str:
        if not re.fullmatch(r"[^\W_][\w.\-]{0,99}", name) or name.endswith(".") or len(name.encode()) > 200:
            raise ValueError(
                "a study's name is also a folder's: letters, digits, '_', '-' and '.', "
                "beginning with a letter or digit, at most 100"
            )
        return name

    @field_validator("mirror")
    @classmethod
    def _mirror_is_a_place(cls, mirror: str | None) -> str | None:
        return _checked_place(mirror)

    @field_validator("goals")
    @classmethod
    def _goals_differ(cls, goals: list[GoalSpec] | None) -> list[GoalSpec] | None:
        metrics = [goal.metric for goal in goals or []]
        for metric in metrics:
            if metrics.count(metric) > 1:
                raise ValueError(f"every goal needs its own metric; {metric!r} stands there twice")
        return goals

    @classmethod
    def load(cls, path: str | Path) -> tuple[StudySpec, str]:
        """The study that the file at ``path`` describes, and the file's text.

        Raises:
            StudyFileError: the file is missing, is no YAML mapping, or breaks a rule; the
                message names the file, the field, the value and what is allowed.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise StudyFileError(f"Cannot read the study file {path}: {reason}.") from error
        return cls.parse(text, str(path)), text

    @classmethod
    def parse(cls, text: str, source: str = "study file") -> StudySpec:
        """The study that a YAML document describes; ``source`` names it in errors."""
        data = _yaml(text, source)
        try:
            spec = cls.model_validate(data)
        except ValidationError as error:
            raise StudyFileError(f"{source}: {_explain(error, cls)}") from None
        except RecursionError:
            raise StudyFileError(f"{source}: an alias (*name) refers to itself.") from None
        if isinstance(spec.search_space, dict):
            try:
                SearchSpace.from_dict(spec.search_space)
            except SpaceError as error:
                raise StudyFileError(f"{source}: search_space: {error}") from None
        return spec


def _yaml(text: str, source: str) -> dict[str, Any]:
    """YAML 1.2 as plain data: no tags that build objects, no key twice, 1e-5 is a number."""
    try:
        data = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = str(error.problem).replace("tag:yaml.org,2002:", "!!")
        raise StudyFileError(f"{source}{line}: not usable as YAML: {problem}.") from None
    except (YAMLError, RecursionError, ValueError) as error:
        raise StudyFileError(f"{source}: not usable as YAML: {str(error).splitlines()[0]}.") from None
    if not isinstance(data, dict):
        raise StudyFileError(
            f"{source}: a study file is a mapping of fields (name: ..., objective: ...); got {_kind(data)}."
        )
    return data


def _kind(data: object) -> str:
    return {list: "a list", str: "plain text", type(None): "nothing"}.get(type(data), type(data).__name__)


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem in one line: field, rule, value; how many more there are."""
    problems = error.errors()
    # An unknown field is usually the cause of the other complaints, so it goes first.
    first = min(problems, key=lambda p: p["type"] != "extra_forbidden")
    where = _path(first["loc"])
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, first["loc"][:-1])
        message = (
            str(UnknownName("field", where, known))
            if "." not in where
            else (f"{_path(first['loc'][:-1])}: {UnknownName('field', first['loc'][-1], known)}")
        )
    elif first["type"] == "model_type":
        such_as = ", such as {name: ...}" if first["ctx"]["class_name"] == Named.__name__ else ""
        message = f"{where} should be a mapping of fields{such_as}; got {_shown(first['input'])}."
    elif first["type"] == "missing":
        message = f"{where} is missing."
    else:
        rule = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        message = f"{where or 'the file'}: {rule}; got {_shown(first['input'])}."
    more = len(problems) - 1
    return message + (f" (and {more} more)" if more else "")


def _shown(value: object) -> str:
    text = masked(repr(value))
    return text if len(text) <= 80 else text[:77] + "..."


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith(("dict[", "constrained", "float", "str", "int", "function-")):
            path += f".{part}" if path else str(part)
    return path


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The fields allowed at ``location``, following nested models by their annotations."""
    for part in location:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        nested = _models_in(model.model_fields[part].annotation)
        if nested:
            model = nested[0]
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for inner in getattr(annotation, "__args__", ()) for m in _models_in(inner)]
