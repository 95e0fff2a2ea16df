"""A study in a journal file of Optuna's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpo.errors import DataError
from hpo.trial import TrialState
from storage.exchange import inference, optuna_study
from storage.exchange.portable import PortableStudy, chosen, state_of


def read(path: Path, name: str | None) -> PortableStudy:
    """A study with its finished trials; the only one there is where ``name`` is None.

    Raises:
        UnknownName: there is none of that name.
        DataError: the file is damaged, holds something that has no place here, or ``name`` is needed to choose.
    """
    import optuna
    from optuna.distributions import distribution_to_json
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        studies = {study.study_name: study for study in storage.get_all_studies()}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no journal that Optuna can read: {error!r}.") from error
    found = studies[chosen(list(studies), name)]
    key = storage.get_study_id_from_name(found.study_name)
    goals = optuna_study.named_goals(
        [direction.name for direction in found.directions], found.system_attrs.get("study:metric_names")
    )
    trials = storage.get_all_trials(key, deepcopy=False)
    finished = [trial for trial in trials if state_of(trial.state.name, str(path)) is not None]
    left_out = Counter({"trials that had not finished": len(trials) - len(finished)})
    distributions: dict[str, list[str]] = {}
    for trial in finished:
        for parameter, distribution in trial.distributions.items():
            distributions.setdefault(parameter, []).append(distribution_to_json(distribution))
        left_out.update(optuna_study.unread(Counter(trial.system_attrs)))
    left_out.update(optuna_study.unread(Counter(found.system_attrs)))
    space, notes = inference.from_distributions(distributions)
    return PortableStudy(
        found.study_name,
        goals,
        space,
        tuple(
            optuna_study.portable(
                state=TrialState(trial.state.name.lower()),
                goals=goals,
                params=trial.params,
                values=None if trial.values is None else tuple(trial.values),
                steps=trial.intermediate_values,
                attributes=trial.user_attrs,
                violations=optuna_study.violations_of(_constraints(trial.system_attrs)),
                times=(optuna_study.iso(trial.datetime_start), optuna_study.iso(trial.datetime_complete)),
                left_out=left_out,
            )
            for trial in finished
        ),
        dict(found.user_attrs),
        tuple(notes),
        +left_out,
    )


def _constraints(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if key.startswith("constraints")}
