"""The points that a new study takes from an earlier one: read once, and kept with the new study.

Whatever becomes of the earlier study afterwards, a resumed or extended search has the same
first points.
"""

from __future__ import annotations

from contextlib import nullcontext

from hpo.errors import StudyFileError, UserError
from hpo.plan import Plan
from hpo.strategies.ranking import best_trials
from hpo.strategies.warm_start import WarmPoints, map_points
from hpo.trial import Event, Params
from storage import urls
from storage.database import Database
from storage.studies import StoredStudy, Studies

EVENT = "warm_start"  # of a study; its details are a ``WarmPoints``, with where they are from


def check(plan: Plan) -> None:
    """Hold what a plan says of its warm start against the rules that need no database.

    Raises:
        StudyFileError: one is broken.
    """
    wanted = plan.spec.warm_start
    if wanted is None:
        return
    if plan.spec.sampler.name == "grid":
        raise StudyFileError("warm_start: a grid tries every point in any case; leave warm_start out.")
    if wanted.storage is None:
        if wanted.study == plan.name:
            raise StudyFileError(f"warm_start.study: {plan.name!r} is this study itself; name an earlier one.")
    else:
        try:
            urls.check_kept(wanted.storage)
        except UserError as error:
            raise StudyFileError(f"warm_start.storage: {error}") from None


def warm_points(studies: Studies, plan: Plan) -> WarmPoints | None:
    """The best points of the earlier study that a plan names, as points of its own space; None without one.

    Raises:
        UserError: there is no such database or study, it has no completed, feasible trial,
            or none of its points fits.
    """
    wanted = plan.spec.warm_start
    if wanted is None:
        return None
    with nullcontext() if wanted.storage is None else Database(_url(wanted.storage)) as other:
        theirs = studies if other is None else Studies(other)
        try:
            earlier = theirs.get(wanted.study)
        except UserError as error:
            raise UserError(f"warm_start: {error}") from None
        best = best_trials(theirs.trials(earlier).records(), earlier.goals, wanted.top)
    if not best:
        raise UserError(f"warm_start: study {wanted.study!r} has no completed, feasible trial to begin with.")
    found = map_points(best, plan.space, clip=wanted.outside == "clip")
    if not found.points:
        raise UserError(
            f"warm_start: none of the {len(best)} best trials of {wanted.study!r} fits into the new search space "
            f"({', '.join(plan.space)}). Take outside: clip, or leave warm_start out."
        )
    return found


def event(plan: Plan, found: WarmPoints) -> Event:
    """What is kept of a warm start."""
    wanted = plan.spec.warm_start
    source = {} if wanted is None else wanted.model_dump()
    return Event("warm_start", f"from study {source.get('study')!r}: {found}", {**source, **found.to_dict()})


def kept_points(studies: Studies, study: StoredStudy) -> tuple[Params, ...]:
    """The points that a study took from an earlier one when it was created."""
    return tuple(point for kept in studies.events(study, EVENT) for point in kept.details["points"])


def _url(storage: str) -> str:
    try:
        return urls.from_environment(storage)
    except UserError as error:
        raise UserError(f"warm_start.storage: {error}") from None
