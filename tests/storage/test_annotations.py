"""Notes and tags, read and written by optuna-dashboard and Optuna as well as by us."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from optuna_dashboard import get_note, save_note
from typer.testing import CliRunner

from cli import app
from hpo import service
from hpo.errors import UnknownName, UserError
from storage.database import Database
from storage.records import CONFIRM, Annotations
from storage.studies import Studies
from tests.storage.test_trials import DONE, PARAMS, SPACE, record

LONG = "ß" + "0123456789" * 1000  # five pieces of 2045 characters


@pytest.fixture
def url(storage_url: str) -> str:
    """A study ``s`` with two trials of its search, and a trial 0 of another series."""
    with Database(storage_url, create=True) as database:
        studies = Studies(database)
        study = studies.create(record(), identity={}, space=SPACE, folder="/none")
        for series, count in (("search", 2), (CONFIRM, 1)):
            store = studies.trials(study, series)
            for number in range(count):
                store.start(number, PARAMS, seed=1, epochs=1)
                store.finish(number, DONE, values=[0.5], metrics={"loss": 0.5}, best_step=1, attempt=1)
    return storage_url


def optunas(url: str) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=url)


def trial(study: optuna.Study, number: int) -> optuna.Trial:
    return optuna.Trial(study, study.trials[number]._trial_id)


def said(url: str) -> Annotations:
    return service.snapshot(url, "s").annotations


def test_the_dashboard_reads_our_notes(url: str) -> None:
    assert service.annotate(url, "s", LONG) == LONG
    service.annotate(url, "s", "of *trial* 1", trial=1)
    found = optunas(url)
    assert get_note(found) == LONG
    assert [get_note(trial(found, number)) for number in (0, 1)] == ["", "of *trial* 1"]


def test_we_read_the_dashboards_notes(url: str) -> None:
    study = optunas(url)
    save_note(study, LONG)
    save_note(study, "shorter")  # leaves empty pieces behind
    save_note(trial(study, 1), "theirs")
    assert said(url) == Annotations("shorter", (), {1: "theirs"}, {})
    assert service.annotate(url, "s", "and ours", trial=1) == "theirs\n\nand ours"
    assert get_note(trial(optunas(url), 1)) == "theirs\n\nand ours"


def test_a_note_that_became_shorter_leaves_nothing_behind(url: str) -> None:
    service.annotate(url, "s", LONG)
    service.annotate(url, "s", "short", replace=True)
    assert get_note(optunas(url)) == "short"
    service.annotate(url, "s", "", replace=True)
    assert get_note(optunas(url)) == "" and said(url) == Annotations()


def test_the_version_grows_so_that_a_browser_sees_the_change(url: str) -> None:
    for text in ("one", "two"):
        service.annotate(url, "s", text)
    system = optunas(url)._storage.get_study_system_attrs(optunas(url)._study_id)
    assert system["dashboard:note_ver"] == 2


def test_tags_are_user_attributes(url: str) -> None:
    assert service.tag(url, "s", ["paper", "first", "paper"]) == ("paper", "first")
    service.tag(url, "s", ["odd"], trial=1)
    assert optunas(url).user_attrs == {"tags": ["paper", "first"]}
    assert optunas(url).trials[1].user_attrs["tags"] == ["odd"]
    assert service.tag(url, "s", ["paper"], remove=True) == ("first",)
    assert service.tag(url, "s", ["odd"], trial=1, remove=True) == ()
    assert "tags" not in optunas(url).trials[1].user_attrs
    assert said(url).tags == service.tag(url, "s") == ("first",)


def test_tags_that_somebody_else_wrote_are_read_as_far_as_they_are_tags(url: str) -> None:
    optunas(url).set_user_attr("tags", "word")
    assert said(url).tags == ("word",)
    optunas(url).set_user_attr("tags", {"no": "list"})
    assert said(url).tags == ()


def test_studies_are_found_by_tag(url: str) -> None:
    service.tag(url, "s", ["paper"])
    with Database(url) as database:
        Studies(database).create(record("t"), identity={}, space=SPACE, folder="/none")
    assert [summary.name for summary in service.summaries(url, "paper")] == ["s"]
    with pytest.raises(UnknownName, match=r"Unknown tag 'papr'\. Known: paper"):
        service.summaries(url, "papr")


def test_everything_goes_with_the_study(url: str) -> None:
    service.annotate(url, "s", "x")
    service.annotate(url, "s", "x", trial=1)
    service.tag(url, "s", ["x"], trial=1)
    service.delete(url, "s")
    with Database(url) as database:
        study = Studies(database).create(record(), identity={}, space=SPACE, folder="/none")
        Studies(database).trials(study).start(0, PARAMS, seed=1, epochs=1)
    assert said(url) == Annotations()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x" * (64 * 1024 + 1), r"may have 64 kB; with this text it has 64\.0"),
        ("a\x1b[31mred", r"the control character '\\x1b'"),
        ("nul \x00", r"the control character '\\x00'"),
        ("half \udc80", r"the control character '\\udc80'"),
        ("\n", "This text is empty"),
    ],
)
def test_a_note_that_cannot_be_is_refused_and_changes_nothing(sqlite_url: str, text: str, message: str) -> None:
    with Database(sqlite_url, create=True) as database:
        Studies(database).create(record(), identity={}, space=SPACE, folder="/none")
    service.annotate(sqlite_url, "s", "before")
    with pytest.raises(UserError, match=message):
        service.annotate(sqlite_url, "s", text)
    assert service.annotate(sqlite_url, "s") == "before"


def test_a_note_of_a_megabyte_grows_by_no_second_half(sqlite_url: str, tmp_path: Path) -> None:
    with Database(sqlite_url, create=True) as database:
        Studies(database).create(record(), identity={}, space=SPACE, folder="/none")
    half = tmp_path / "half.md"
    half.write_text("ä" * 20_000)
    service.annotate(sqlite_url, "s", file=half)
    with pytest.raises(UserError, match=r"it has 78\.1"):  # 80,002 bytes
        service.annotate(sqlite_url, "s", file=half)
    (tmp_path / "raw").write_bytes(b"\xff\xfe")
    for file, message in ((tmp_path / "none", "No such file"), (tmp_path / "raw", "not text in UTF-8")):
        with pytest.raises(UserError, match=message):
            service.annotate(sqlite_url, "s", file=file)
    with pytest.raises(UserError, match="not from both"):
        service.annotate(sqlite_url, "s", "text", file=half)


@pytest.mark.parametrize("word", ["", "  ", "x" * 51, "a\tb", "bell\x07"])
def test_what_is_no_tag_is_refused(sqlite_url: str, word: str) -> None:
    with Database(sqlite_url, create=True) as database:
        Studies(database).create(record(), identity={}, space=SPACE, folder="/none")
    with pytest.raises(UserError, match=r"^A tag "):
        service.tag(sqlite_url, "s", ["good", word])
    assert service.tag(sqlite_url, "s") == ()


def test_a_trial_that_is_not_there_is_named(url: str) -> None:
    for act in (lambda: service.annotate(url, "s", "x", trial=2), lambda: service.tag(url, "s", ["x"], trial=2)):
        with pytest.raises(UserError, match="There is no trial 2: the study has trials 0 to 1"):
            act()
    with pytest.raises(UnknownName, match="Unknown tag 'x'"):
        service.tag(url, "s", ["x"], remove=True)


def test_what_a_browser_wrote_cannot_reach_a_terminal(sqlite_url: str) -> None:
    with Database(sqlite_url, create=True) as database:
        study = Studies(database).create(record(), identity={}, space=SPACE, folder="/none")
        Studies(database).trials(study).start(0, PARAMS, seed=1, epochs=1)
    theirs = optunas(sqlite_url)
    save_note(theirs, "first\n\x1b[2Jsecond")
    theirs.set_user_attr("tags", ["\x1b]0;title\x07"])

    def printed(*command: str) -> str:
        return CliRunner().invoke(app, [*command, "--storage", sqlite_url], catch_exceptions=False).stdout

    assert printed("note", "s") == "first\n\ufffd[2Jsecond\n"
    assert printed("tag", "s") == "\ufffd]0;title\ufffd\n"
    shown = printed("show", "s")
    assert "Tags: \ufffd]0;title\ufffd\n  first\n  \ufffd[2Jsecond\n" in shown
    assert "\x1b" not in shown + printed("list")
    told = json.loads(printed("show", "s", "--json"))
    assert (told["note"], told["tags"], told["trials"][0]["tags"]) == ("first\n\x1b[2Jsecond", ["\x1b]0;title\x07"], [])


def test_commands_say_what_they_did(sqlite_url: str) -> None:
    with Database(sqlite_url, create=True) as database:
        study = Studies(database).create(record(), identity={}, space=SPACE, folder="/none")
        Studies(database).trials(study).start(0, PARAMS, seed=1, epochs=1)

    def run(*command: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*command, "--storage", sqlite_url])
        return done.exit_code, done.stdout

    assert run("note", "s", "a remark", "--trial", "0") == (0, "")
    assert run("tag", "s", "good", "--trial", "0") == (0, "good\n")
    assert run("note", "s", "--trial", "0") == (0, "a remark\n")
    head, _, row = run("show", "s")[1].splitlines()[-3:]
    assert {"tags", "note"} <= set(head.split()) and {"good", "yes"} <= set(row.split())
    assert run("tag", "s") == (0, "")
    service.tag(sqlite_url, "s", ["paper"])
    assert "paper" in run("list", "--tag", "paper")[1]
