"""The use case of going from coarse to fine: a study file for where the best trials of a study lie."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from hpo.errors import UserError
from hpo.resolve import resolve
from hpo.spec import StudySpec
from hpo.strategies.narrowing import narrowed
from hpo.strategies.ranking import best_trials, completed
from hpo.trial import Params, TrialRecord
from storage.database import Database
from storage.studies import StoredStudy, Studies

_FINER = "-finer"
_MAX_NAME = 100  # characters of a study's name
_ENQUEUED = 10  # of the best points, at most: each is run again


def narrow(storage: str, name: str, top: int | float = 0.25) -> str:
    """The text of a study file whose space is narrowed to the best trials of a study.

    Everything else is as in the stored file, comments included; the best points come first,
    and ``warm_start`` is left out, because it has done its work.

    Args:
        top: how many of the completed, feasible trials count: a share of them (float) or a number (int).

    Raises:
        UserError: there is no such study, or it has no completed, feasible trial.
        StudyFileError: the narrowed study would not do, say because its objective has changed.
    """
    with Database(storage) as database:
        studies = Studies(database)
        study = studies.get(name)
        records = studies.trials(study).records()
    done = len(completed(records))
    if not done:
        raise UserError(f"Study {name!r} has no completed, feasible trial to narrow its space to.")
    best = best_trials(records, study.goals, math.ceil(top * done) if isinstance(top, float) else top)
    text = _head(study, best, done) + _body(study, best)
    resolve(StudySpec.parse(text, "the narrowed study"), "the narrowed study", study.import_from)
    return text


def _head(study: StoredStudy, best: Sequence[TrialRecord], done: int) -> str:
    numbers = ", ".join(str(record.number) for record in best[:_ENQUEUED]) + (", ..." if len(best) > _ENQUEUED else "")
    lines = [
        f"# Narrowed from study {study.name}, to where the best {len(best)} of its {done} completed, feasible trials",
        f"# lie: {numbers}.",
    ]
    if ":" in study.record.objective:
        lines.append(f"# Keep this file beside the module of {study.record.objective}.")
    return "\n".join(lines) + "\n"


def _body(study: StoredStudy, best: Sequence[TrialRecord]) -> str:
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 4096  # nothing is wrapped
    file = yaml.load(study.record.spec_yaml)
    space = narrowed(study.space, [record.params for record in best])
    file["name"] = study.name[: _MAX_NAME - len(_FINER)] + _FINER
    file["search_space"] = _block({name: _flow(fields) for name, fields in space.to_dict().items()})
    file["enqueue"] = _points([record.params for record in best[:_ENQUEUED]])
    file.pop("warm_start", None)
    text = io.StringIO()
    yaml.dump(file, text)
    return text.getvalue()


def _points(points: Sequence[Params]) -> CommentedSeq:
    """The points, each once."""
    listed = CommentedSeq([_flow(point) for i, point in enumerate(points) if point not in points[:i]])
    listed.fa.set_block_style()
    return listed


def _block(fields: Mapping[str, Any]) -> CommentedMap:
    mapping = CommentedMap(fields)
    mapping.fa.set_block_style()
    return mapping


def _flow(fields: Mapping[str, Any]) -> CommentedMap:
    """Everything on one line."""
    mapping = CommentedMap(fields)
    mapping.fa.set_flow_style()
    return mapping
