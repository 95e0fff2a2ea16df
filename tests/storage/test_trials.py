"""The contract of a store, over every database a study can live in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState as OptunaState

from hpo.errors import StorageError, StudyBusy, UnknownName, UserError
from hpo.trial import Direction, Event, Goal, Point, StopKind, StopReason, TrialState
from search_spaces import Choice, Float, Int, SearchSpace
from storage import codec
from storage.database import Database
from storage.leases import Lease
from storage.records import CONFIRM, SEARCH, StudyRecord
from storage.studies import StoredStudy, Studies
from tests import studies as helper

SPACE = SearchSpace(
    {
        "lr": Float(1e-5, 1e-1, log=True),
        "step": Float(0.0, 1.0, step=0.25),
        "layers": Int(1, 4),
        "kind": Choice(("a", 1, True, None, 0.5)),
        "momentum": Float(0.0, 0.9, when={"kind": "a"}),
    }
)
PARAMS = {"lr": 1e-3, "step": 0.75, "layers": 3, "kind": True}
DONE = StopReason(StopKind.FINISHED, "ran all 3 epochs")


def record(name: str = "s", goals: int = 1) -> StudyRecord:
    chosen = (Goal("loss"), Goal("speed", Direction.MAXIMIZE), Goal("mb"))[:goals]
    return StudyRecord(name, "analytic", "name: s", "d" * 64, chosen, chosen[0], "none", codec.now())


@pytest.fixture
def database(storage_url: str) -> Iterator[Database]:
    with Database(storage_url, create=True) as opened:
        yield opened


def create(database: Database, goals: int = 1, name: str = "s") -> StoredStudy:
    return Studies(database).create(record(name, goals), identity={"seed": 1}, space=SPACE, folder="/none")


def test_a_trial_comes_back_as_it_was_stored(database: Database) -> None:
    store = Studies(database).trials(create(database))
    store.start(0, PARAMS, seed=2**32 - 1, epochs=3, enqueued=True, sampler_state={"g": 1}, search_state={"p": [1]})
    store.add_point(0, Point(1, {"loss": math.nan, "x": math.inf}, "last.pt"), attempt=1)
    store.add_point(0, Point(2, {"loss": 0.5}, events=(Event("warning", "hot", {"c": 90}),)), attempt=1)
    store.finish(0, DONE, values=[0.5], metrics={"loss": 0.5, "mb": -math.inf}, best_step=2, attempt=1)
    (found,) = Studies(database).trials(Studies(database).get("s")).records(points=True)
    assert (found.params, found.seed, found.enqueued) == (PARAMS, 2**32 - 1, True)
    assert found.params["kind"] is True
    assert (found.state, found.values, found.reason, found.best_step) == (TrialState.COMPLETE, (0.5,), DONE, 2)
    assert math.isnan(found.points[0].metrics["loss"])
    assert found.points[0].metrics["x"] == math.inf
    assert found.metrics["mb"] == -math.inf
    assert found.points[0].checkpoint == "last.pt"
    assert found.sampler_state == {"g": 1}
    assert Studies(database).get("s").search_state == {"p": [1]}
    (event,) = Studies(database).snapshot("s").events
    assert (event.number, event.kind, event.details) == (0, "warning", {"c": 90})


def test_plain_optuna_reads_every_row(database: Database, storage_url: str) -> None:
    store = Studies(database).trials(create(database))
    store.start(0, {**PARAMS, "kind": "a", "momentum": 0.3}, seed=1, epochs=3)
    for step, value in ((1, 0.9), (2, math.nan), (3, math.inf)):
        store.add_point(0, Point(step, {"loss": value}), attempt=1, first=step == 1)
    store.restart(0, 2)
    store.add_point(0, Point(3, {"loss": 0.4}), attempt=2, first=True)
    store.finish(0, DONE, values=[0.4], metrics={"loss": 0.4}, best_step=3, attempt=2)
    store.start(1, PARAMS, seed=2, epochs=3)
    store.finish(1, StopReason(StopKind.PRUNED, "too slow"), values=None, metrics={}, best_step=None, attempt=1)
    store.start(2, PARAMS, seed=3, epochs=3)
    store.finish(2, StopReason(StopKind.ERROR, "boom"), values=None, metrics={}, best_step=None, attempt=1)
    store.start(3, PARAMS, seed=4, epochs=3)
    store.finish(3, StopReason(StopKind.INTERRUPTED, "bye"), values=None, metrics={}, best_step=None, attempt=1)
    store.start(4, PARAMS, seed=5, epochs=3)

    study = optuna.load_study(study_name="s", storage=storage_url)
    assert study.metric_names == ["loss"]
    assert [t.state for t in study.trials] == [
        OptunaState.COMPLETE, OptunaState.PRUNED, OptunaState.FAIL, OptunaState.WAITING, OptunaState.RUNNING,
    ]  # fmt: skip
    first = study.trials[0]
    assert first.params == {**PARAMS, "kind": "a", "momentum": 0.3}
    assert study.trials[1].params == PARAMS
    assert first.intermediate_values[1] == 0.9
    assert math.isnan(first.intermediate_values[2])
    assert first.intermediate_values[3] == 0.4
    assert first.value == 0.4
    assert first.user_attrs["reason"] == "ran all 3 epochs"
    assert first.duration is not None
    assert first.duration.total_seconds() >= 0
    assert study.best_trial.number == 0
    # A sampler of Optuna's goes on from our rows.
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=1, seed=0)
    assert study.ask(dict(first.distributions)).number in (3, 5)


def test_a_study_with_several_goals_gives_optuna_no_curve(database: Database, storage_url: str) -> None:
    # TPESampler crashes on a pruned trial with intermediate values as soon as there are two goals.
    store = Studies(database).trials(create(database, goals=3))
    for number in range(12):
        store.start(number, PARAMS, seed=1, epochs=3)
        store.add_point(number, Point(1, {"loss": 1.0, "speed": 2.0, "mb": 3.0}), attempt=1)
        if number % 2:
            reason = StopReason(StopKind.PRUNED, "too slow")
            store.finish(number, reason, values=None, metrics={}, best_step=1, attempt=1)
        else:
            store.finish(number, DONE, values=[1.0, 2.0, 3.0], metrics={}, best_step=1, attempt=1)
    study = optuna.load_study(study_name="s", storage=storage_url)
    assert not any(t.intermediate_values for t in study.trials)
    assert study.trials[0].values == [1.0, 2.0, 3.0]
    assert [d.name for d in study.directions] == ["MINIMIZE", "MAXIMIZE", "MINIMIZE"]
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=1, seed=0)
    assert study.ask(dict(study.trials[0].distributions)).number == 12


def test_a_series_of_its_own_stays_out_of_optunas_tables(database: Database, storage_url: str) -> None:
    studies = Studies(database)
    study = create(database)
    studies.trials(study, SEARCH).start(0, PARAMS, seed=1, epochs=3)
    confirm = studies.trials(study, CONFIRM)
    confirm.start(0, PARAMS, seed=9, epochs=5, subject=0)
    confirm.finish(0, DONE, values=[0.1], metrics={"loss": 0.1}, best_step=1, attempt=1)
    assert len(optuna.load_study(study_name="s", storage=storage_url).trials) == 1
    (found,) = studies.snapshot("s").others[CONFIRM]
    assert (found.subject, found.seed, found.epochs, found.values) == (0, 9, 5, (0.1,))
    assert studies.summaries()[0].counts == {TrialState.RUNNING: 1}


def test_an_interrupted_trial_runs_again_with_both_attempts_kept(database: Database) -> None:
    studies = Studies(database)
    store = studies.trials(create(database))
    store.start(0, PARAMS, seed=1, epochs=3)
    store.finish(0, StopReason(StopKind.INTERRUPTED, "bye"), values=None, metrics={}, best_step=None, attempt=1)
    assert store.records()[0].state is TrialState.QUEUED
    store.restart(0, 2)
    store.add_point(0, Point(1, {"loss": 1.0}), attempt=2, worker="host:1")
    store.finish(0, DONE, values=[1.0], metrics={}, best_step=None, attempt=2)
    assert [(a.attempt, a.worker, a.ended_how) for a in studies.snapshot("s").attempts] == [
        (1, None, "interrupted"), (2, "host:1", "finished"),
    ]  # fmt: skip


def test_a_new_attempt_forgets_what_a_dead_one_did_later(database: Database, storage_url: str) -> None:
    studies = Studies(database)
    store = studies.trials(create(database))
    store.start(0, PARAMS, seed=1, epochs=5)
    for step in (1, 2, 3, 4):
        store.add_point(0, Point(step, {"loss": float(step)}), attempt=1, first=step == 1)
    store.finish(0, StopReason(StopKind.INTERRUPTED, "bye"), values=None, metrics={}, best_step=None, attempt=1)
    store.restart(0, 2)  # its last checkpoint was that of step 1
    store.add_point(0, Point(2, {"loss": 0.5}), attempt=2, first=True)
    (found,) = store.records(points=True)
    assert [(p.step, p.metrics["loss"]) for p in found.points] == [(1, 1.0), (2, 0.5)]
    assert found.last_step == 2
    (plain,) = optuna.load_study(study_name="s", storage=storage_url).trials
    assert plain.intermediate_values == {1: 1.0, 2: 0.5}
    store.add_point(0, Point(3, {"loss": 0.4}), attempt=2)
    assert [p.step for p in store.records(points=True)[0].points] == [1, 2, 3]


def test_a_trial_that_runs_again_has_no_reason_to_have_stopped(database: Database) -> None:
    store = Studies(database).trials(create(database))
    store.start(0, PARAMS, seed=1, epochs=3)
    store.finish(0, StopReason(StopKind.INTERRUPTED, "bye"), values=None, metrics={}, best_step=None, attempt=1)
    assert store.records()[0].reason == StopReason(StopKind.INTERRUPTED, "bye")
    store.restart(0, 2)
    assert store.records()[0].reason is None


def test_text_that_a_server_would_refuse_is_spelled_out(database: Database) -> None:
    studies = Studies(database)
    study = create(database)
    store = studies.trials(study)
    store.start(0, PARAMS, seed=1, epochs=3)
    odd = "bad \x00 and \udc80"
    reason = StopReason(StopKind.ERROR, odd)
    events = [Event("warning", odd, {"text": odd})]
    store.finish(0, reason, values=None, metrics={}, best_step=None, attempt=1, events=events)
    studies.add_event(study, Event("note", odd))
    snapshot = studies.snapshot("s")
    assert snapshot.trials[0].reason == StopReason(StopKind.ERROR, r"bad \x00 and \udc80")
    assert [event.message for event in snapshot.events] == [r"bad \x00 and \udc80"] * 2
    assert snapshot.events[0].details == {"text": odd}  # JSON has its own way to spell both


def test_deleting_a_study_leaves_the_others_whole(database: Database, storage_url: str) -> None:
    studies = Studies(database)
    for name in ("one", "two"):
        store = studies.trials(create(database, name=name))
        store.start(0, PARAMS, seed=1, epochs=3)
        store.add_point(0, Point(1, {"loss": 1.0}, events=(Event("warning", "w"),)), attempt=1)
        store.finish(0, DONE, values=[1.0], metrics={}, best_step=1, attempt=1)
    studies.delete(studies.get("one"))
    assert studies.names() == ["two"]
    assert optuna.get_all_study_names(storage_url) == ["two"]
    for table in ("trials", "trial_params", "trial_values", "hpo_trials", "hpo_points", "hpo_attempts", "hpo_events"):
        left = helper.rows(storage_url, f"SELECT count(*) FROM {table}")[0][0]
        assert left == (4 if table == "trial_params" else 1), table


def test_an_unknown_study_is_named_with_the_nearest(database: Database) -> None:
    create(database, name="logo-quality")
    with pytest.raises(UnknownName, match=r"Unknown study 'logo-qality'.*Did you mean 'logo-quality'"):
        Studies(database).get("logo-qality")


def test_a_plain_optuna_study_of_the_same_name_is_left_alone(database: Database, storage_url: str) -> None:
    optuna.create_study(study_name="s", storage=storage_url)
    with pytest.raises(UserError, match="already holds an Optuna study"):
        create(database)
    assert Studies(database).names() == []


def test_a_study_that_another_process_has_just_made_is_told_so(database: Database) -> None:
    create(database)
    with pytest.raises(StudyBusy, match="'s' was created by another process just now; launch again"):
        create(database)


def test_one_driver_owns_a_study_at_a_time(database: Database) -> None:
    study = create(database)
    with Lease(database, study.id, "s"), pytest.raises(StudyBusy, match="process"), Lease(database, study.id, "s"):
        pass
    with Lease(database, study.id, "s"):
        pass


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ("pid = 4194304 + 7", True),  # above any pid: that process is gone
        ("process_started = 'another'", True),  # the pid was given to somebody else
        ("host = 'elsewhere'", False),  # cannot be looked at, and its heart beats
        ("host = 'elsewhere', heartbeat_at = '2020-01-01T00:00:00+00:00'", True),
    ],
)
def test_a_dead_owners_lease_is_taken_over(database: Database, change: str, taken: bool) -> None:
    from sqlalchemy import text

    study = create(database)
    first = Lease(database, study.id, "s")
    first.__enter__()
    with database.write() as conn:
        conn.execute(text(f"UPDATE hpo_leases SET {change}"))
    second = Lease(database, study.id, "s")
    if taken:
        with second:
            pass
    else:
        with pytest.raises(StudyBusy, match="elsewhere"):
            second.__enter__()
    first.__exit__()


def test_the_migrations_make_what_the_tables_say(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from storage.tables import metadata

    def ours(name: str | None, kind: str, _: object) -> bool:
        return kind != "table" or (str(name).startswith("hpo_") and name != "hpo_alembic_version")

    with database.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn, opts={"include_name": ours}), metadata) == []


def test_a_newer_schema_is_refused(database: Database, storage_url: str) -> None:
    from sqlalchemy import text

    with database.write() as conn:
        conn.execute(text("UPDATE hpo_alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match="newer hpo"):
        Database(storage_url)


def test_nothing_of_a_failed_transaction_stays(database: Database, storage_url: str) -> None:
    store = Studies(database).trials(create(database))
    store.start(0, PARAMS, seed=1, epochs=3)
    with pytest.raises(StorageError):  # the number is taken, which Optuna's table would not mind
        store.start(0, PARAMS, seed=1, epochs=3)
    assert helper.rows(storage_url, "SELECT count(*) FROM trials")[0][0] == 1


def test_sqlite_survives_a_power_cut_by_its_settings(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path / 'x.db'}", create=True) as database, database.read() as conn:
        assert conn.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert conn.exec_driver_sql("PRAGMA synchronous").scalar() == 2
