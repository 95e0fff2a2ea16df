"""Versions and labels, over every database they can live in: what is stored stays, and of two at once one is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete

from hpo.errors import UnknownName
from storage import checking, tables
from storage.database import Database
from storage.records import VersionRecord
from storage.registry import NOWHERE, LabelMove, LabelMoved, Registry, VersionTaken
from storage.studies import Studies
from tests import studies as helper
from tests.servers import drop_database, new_database
from tests.storage.test_trials import SPACE, record

LATEST = LabelMove("latest")


def draft(
    number: tuple[int, int, int] = (1, 0, 0), digest: str = "a", model: str = "logo", **facts: Any
) -> VersionRecord:
    manifest = {"origin": {"digest": "d" * 64}, "summary": "half a pair \ud83d, NUL \x00, ü", "value": float("inf")}
    version = VersionRecord(
        model=model, number=number, created_at="", digest=digest * 64, place=f"/models/{number}", bytes=2**40, files=9,
        manifest=manifest, study="s", trial=7, published_by="ann", host="here", forced="it must be\nnow",
    )  # fmt: skip
    return replace(version, **facts)


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One database of every kind for all tests here; each begins without models."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('registry') / 'hpo.db'}"
        return
    server = request.getfixturevalue({"postgresql": "postgres", "mysql": "mysql"}[request.param])
    found = new_database(server)
    yield found
    drop_database(server, found)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with Database(url, create=True) as opened:
        with opened.write() as conn:
            for table in (tables.labels, tables.label_moves, tables.versions):
                conn.execute(delete(table))
        yield opened


def test_a_version_comes_back_as_it_was_published(database: Database) -> None:
    registry = Registry(database)
    stored = registry.publish(draft(), [LATEST, LabelMove("staging", "to try")])
    registry.publish(draft((1, 10, 0), "b"), [LabelMove("latest", seen=stored.id)])
    registry.publish(draft((1, 9, 0), "c"), [])
    model = registry.get("logo")
    assert [version.name for version in model.versions] == ["v1.0.0", "v1.9.0", "v1.10.0"]
    assert model.versions[0] == replace(stored, manifest=model.versions[0].manifest)
    assert model.versions[0].manifest["value"] == float("inf")
    assert {label: version.name for label, version in model.labels.items()} == {
        "latest": "v1.10.0",
        "staging": "v1.0.0",
    }
    assert [(move.label, move.before, move.after, move.by, move.reason) for move in registry.moves("logo")] == [
        ("latest", None, "v1.0.0", "ann", None), ("staging", None, "v1.0.0", "ann", "to try"),
        ("latest", "v1.0.0", "v1.10.0", "ann", None),
    ]  # fmt: skip


def test_models_are_told_apart_by_every_letter(database: Database) -> None:
    registry = Registry(database)
    for model in ("logo", "Logo", "rf"):
        registry.publish(draft(model=model), [LATEST])
    assert registry.names() == ["Logo", "logo", "rf"]
    assert registry.find("log") is None
    with pytest.raises(UnknownName, match="Known: Logo, logo, rf. Did you mean 'logo'"):
        registry.get("logos")


@pytest.mark.parametrize("second", [draft(digest="b"), draft((2, 0, 0))])
def test_a_number_or_a_bundle_that_is_there_is_refused(database: Database, second: VersionRecord) -> None:
    registry = Registry(database)
    registry.publish(draft(), [LATEST])
    with pytest.raises(VersionTaken) as refused:
        registry.publish(second, [LATEST])
    assert refused.value.holder.reference == "logo@v1.0.0"
    assert len(registry.get("logo").versions) == len(registry.moves("logo")) == 1


def test_a_label_that_is_elsewhere_by_now_takes_the_version_with_it(database: Database) -> None:
    registry = Registry(database)
    registry.publish(draft(), [LATEST])
    with pytest.raises(LabelMoved):
        registry.publish(draft((2, 0, 0), "b"), [LabelMove("new"), LabelMove("latest", seen=NOWHERE)])
    assert [version.name for version in registry.get("logo").versions] == ["v1.0.0"]
    assert set(registry.get("logo").labels) == {"latest"}


def test_a_label_moves_goes_and_comes_again(database: Database) -> None:
    registry = Registry(database)
    old, new = (registry.publish(draft((n, 0, 0), digest), []) for n, digest in ((1, "a"), (2, "b")))
    for to in (old, old, new):
        registry.move("logo", LabelMove("production", f"to {to.name}"), to, "bob")
    with pytest.raises(LabelMoved):
        registry.move("logo", LabelMove("production", seen=old.id), old, "bob")
    registry.remove_label("logo", LabelMove("production", seen=new.id), "bob")
    assert registry.get("logo").labels == {}
    found = [(move.before, move.after, move.reason) for move in registry.moves("logo")]
    assert found == [(None, "v1.0.0", "to v1.0.0"), ("v1.0.0", "v2.0.0", "to v2.0.0"), ("v2.0.0", None, None)]


def at_once(url: str, *works: Callable[[Registry], object]) -> list[object]:
    """What each gave or raised, all begun together, each with connections of its own."""
    found, gate = [], threading.Barrier(len(works))

    def work(todo: Callable[[Registry], object]) -> None:
        with Database(url) as database:
            registry = Registry(database)
            registry.names()
            gate.wait(30)
            try:
                found.append(todo(registry))
            except Exception as error:
                found.append(error)

    threads = [threading.Thread(target=work, args=(todo,)) for todo in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_of_several_publishers_of_one_number_one_wins(database: Database, url: str) -> None:
    found = at_once(url, *(lambda r, d=d: r.publish(draft(digest=d), [LATEST]) for d in "abcd"))
    (won,) = [each for each in found if isinstance(each, VersionRecord)]
    lost = [each for each in found if isinstance(each, VersionTaken)]
    assert len(lost) == 3 and all(each.holder.id == won.id for each in lost)
    assert Registry(database).get("logo").labels["latest"].digest == won.digest


def test_publishers_of_several_numbers_all_win_and_the_history_is_a_chain(database: Database, url: str) -> None:
    works = [lambda r, n=n: r.publish(draft((n, 0, 0), "abcd"[n]), [LATEST]) for n in range(4)]
    found = at_once(url, *works)
    assert all(isinstance(each, VersionRecord) for each in found)
    assert_chain(Registry(database), "latest", 4)


def test_a_label_that_several_move_at_once_has_a_true_history(database: Database, url: str) -> None:
    versions = [Registry(database).publish(draft((n, 0, 0), "abcd"[n]), []) for n in range(4)]
    found = at_once(url, *(lambda r, v=v: r.move("logo", LabelMove("production"), v, "bob") for v in versions))
    assert found == [None] * 4
    assert_chain(Registry(database), "production", 4)


def assert_chain(registry: Registry, label: str, length: int) -> None:
    """Every move began where the one before had ended, and the label is where the last one put it."""
    moves = [move for move in registry.moves("logo") if move.label == label]
    assert len(moves) == length
    assert [move.before for move in moves] == [None, *(move.after for move in moves[:-1])]
    assert registry.get("logo").labels[label].name == moves[-1].after


def test_a_study_is_told_and_may_go(database: Database, url: str) -> None:
    studies = Studies(database)
    study = studies.create(record("s"), identity={}, space=SPACE, folder="/none")
    studies.create(record("other"), identity={}, space=SPACE, folder="/none")
    registry = Registry(database)
    registry.publish(draft(), [])
    registry.publish(draft((1, 1, 0), "b", manifest={"origin": {"digest": "e" * 64}}), [])  # of another study called s
    (told,) = studies.events(study, "published")
    assert told.message == "published as logo@v1.0.0 by ann" and told.details["trial"] == 7
    assert helper.rows(url, "SELECT study_id FROM hpo_versions ORDER BY minor") == [(study.id,), (None,)]
    assert checking.examine(database).problems == ()
    studies.delete(study)
    assert helper.rows(url, "SELECT study_id FROM hpo_versions") == [(None,), (None,)]
    assert [version.study for version in registry.get("logo").versions] == ["s", "s"]
    assert checking.examine(database).problems == ()
    assert checking.examine(database).counts["hpo_versions"] == 2
