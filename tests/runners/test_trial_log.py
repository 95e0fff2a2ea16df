"""The log of a trial: what is printed goes into it, bounded, and nothing of it stays in the process."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpo.runners import trial_log
from hpo.runners.trial_log import FILE, TrialLog
from hpo.runners.worker import run_job
from hpo.trial import GO_ON, Decision, Event, Job, Outcome, Point, StopKind, StopReason, TrialContext
from objectives.analytic import Analytic
from tests.runners.jobs import make_job

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (hpo |step|out |err |log ) (.*)")
DONE = Outcome(StopReason(StopKind.FINISHED, "that was all"))


def lines(folder: Path) -> list[tuple[str, str]]:
    """Who spoke and what, line by line; each has a time."""
    found = [LINE.fullmatch(line) for line in (folder / FILE).read_text(encoding="utf-8").splitlines()]
    assert all(found), (folder / FILE).read_text(encoding="utf-8")
    return [(match[1].strip(), match[2]) for match in found if match]


def printed(folder: Path, act: Callable[[], object]) -> list[tuple[str, str]]:
    """What is in a log besides its own first two lines, after ``act`` was done under it."""
    with TrialLog(make_job(folder=str(folder)), "cpu"):
        act()
    return lines(folder)[2:]


class Doing(Analytic):
    """Does what a test wants."""

    def __init__(self, act: Callable[[Job, TrialContext], Outcome]) -> None:
        self._act = act

    def run(self, job: Job, context: TrialContext) -> Outcome:
        return self._act(job, context)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Runs a job whose objective is a function."""

    def run(act: Callable[[Job, TrialContext], Outcome], **fields: Any) -> Outcome:
        monkeypatch.setattr("hpo.runners.worker.find", lambda name, folder: Doing(act))
        return run_job(make_job(**{"folder": str(tmp_path), **fields}), lambda point: GO_ON)

    return run


def test_both_streams_and_records_are_kept_with_who_said_them(tmp_path: Path) -> None:
    def act() -> None:
        print("to out")
        print("to err", file=sys.stderr)
        logging.getLogger("some.library").warning("found %d", 3)
        logging.getLogger("some.library").debug("not wanted by anybody")

    found = printed(tmp_path, act)
    assert found[:2] == [("out", "to out"), ("err", "to err")]
    assert found[-1] == ("log", "WARNING some.library: found 3")
    assert not [text for _, text in found if "anybody" in text]


def test_everything_still_goes_where_it_would_have_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> None:
        print("out")
        sys.stderr.write("err\n")

    printed(tmp_path, act)
    assert tuple(capsys.readouterr()) == ("out\n", "err\n")


def test_a_handler_that_was_set_up_in_the_trial_says_nothing_twice(tmp_path: Path) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()  # pytest's own

    def act() -> None:
        logging.basicConfig(level=logging.INFO, force=False)
        logging.getLogger("mine").info("once")

    try:
        found = printed(tmp_path, act)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert found == [("log", "INFO mine: once")]


def test_an_exception_that_is_logged_and_arguments_that_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)

    def act() -> None:
        try:
            raise KeyError("lost")
        except KeyError:
            logging.getLogger("own").exception("oh")
        logger = logging.getLogger("silent")
        logger.propagate = False
        logger.warning("%d of %d", 1)
        logger.propagate = True

    texts = [text for _, text in printed(tmp_path, act)]
    assert texts[0] == "ERROR own: oh"
    assert "KeyError: 'lost'" in texts
    assert texts[-1].startswith("WARNING silent: '%d of %d' (")


def test_streams_and_logging_are_put_back_exactly(tmp_path: Path) -> None:
    before = sys.stdout, sys.stderr, logging.Logger.callHandlers
    with pytest.raises(RuntimeError):
        printed(tmp_path, lambda: (_ for _ in ()).throw(RuntimeError("no")))
    assert (sys.stdout, sys.stderr, logging.Logger.callHandlers) == before
    assert lines(tmp_path)[-1] == ("hpo", "attempt 1 was broken off by RuntimeError")


def test_who_keeps_the_stream_of_one_trial_writes_into_the_next_and_nowhere_in_between(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: list[Any] = []
    printed(tmp_path / "a", lambda: kept.append(sys.stdout))
    capsys.readouterr()
    kept[0].write("between\n")
    assert tuple(capsys.readouterr()) == ("", "between\n")  # standard output may be a command's JSON
    assert printed(tmp_path / "b", lambda: kept[0].write("in the next\n")) == [("out", "in the next")]
    assert lines(tmp_path / "a")[2:] == []


def test_a_progress_bar_leaves_its_last_state_alone(tmp_path: Path) -> None:
    from tqdm import tqdm

    def act() -> None:
        for _ in tqdm(range(3000), desc="epoch", mininterval=0, miniters=1):
            pass
        print("after it")

    found = printed(tmp_path, act)
    assert len(found) == 2
    assert found[0][1].startswith("epoch: 100%") and "3000/3000" in found[0][1]
    assert found[1] == ("out", "after it")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\n", ["a", "b"]),
        ("no end", ["no end"]),
        ("dos\r\nlines\r\n", ["dos", "lines"]),
        ("10 %\r20 %\r30 %\r", ["30 %"]),
        ("\r10 %\r20 %\n", ["20 %"]),
        ("\r10 %\r      \r", ["10 %"]),
        ("\x1b[31mred\x1b[0m\a \x1b]0;title\x07x\n", ["red x"]),
        ("\n\n  \n", []),
        ("\udcff ünï\n", ["\\udcff ünï"]),
    ],
)
def test_lines_as_they_would_stand_on_a_screen(tmp_path: Path, text: str, expected: list[str]) -> None:
    with TrialLog(make_job(folder=str(tmp_path)), "cpu") as log:
        log.take("out", text)
    assert [said for _, said in lines(tmp_path)[2:]] == expected


def test_a_bar_that_goes_on_is_looked_at_from_time_to_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with TrialLog(make_job(folder=str(tmp_path)), "cpu") as log:
        for second in range(60):
            now[0] = float(second)
            log.take("err", f"\r{second} of 60")
    assert [text for _, text in lines(tmp_path)[2:]] == [f"{second} of 60" for second in (10, 20, 30, 40, 50, 59)]


def test_threads_write_into_the_log_and_no_line_is_torn(tmp_path: Path) -> None:
    def act() -> None:
        def say(who: int) -> None:
            for i in range(100):
                sys.stdout.write(f"<{who} says {i}>\n")

        threads = [threading.Thread(target=say, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    found = [text for _, text in printed(tmp_path, act)]
    assert sorted(found) == sorted(f"<{who} says {i}>" for who in range(4) for i in range(100))


def test_a_forked_process_writes_into_the_log(tmp_path: Path) -> None:
    def act() -> None:
        child = os.fork()
        if child == 0:
            print("from the child", flush=True)
            os._exit(0)
        os.waitpid(child, 0)

    assert printed(tmp_path, act) == [("out", "from the child")]


def test_the_log_is_bounded_over_all_attempts_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_log, "LIMIT_BYTES", 2**20)
    for attempt in (1, 2):  # 9,000 lines of 131 bytes are more than 1 MB
        with TrialLog(make_job(folder=str(tmp_path), attempt=attempt), "cpu") as log:
            for _ in range(9_000 if attempt == 1 else 9):
                print("x" * 100)
            log.ended(DONE)
    found = lines(tmp_path)
    told = [text for who, text in found if who == "hpo"]
    assert [text for text in told if "1 MB" in text] == [
        "this log has its 1 MB; what the attempt prints from here on is left out"
    ] * 2
    assert (tmp_path / FILE).stat().st_size < 2**20 + 2000
    assert told[-1].startswith("attempt 2 ended after")


def test_steps_events_begin_and_end_stand_in_it(run: Any, tmp_path: Path) -> None:
    def act(job: Job, context: TrialContext) -> Outcome:
        context.event("recovery", "lowered the learning rate")
        context.report(job.reported + 1, f1=0.123456789, lr=1e-3)
        return DONE

    run(act, params={"x0": 0.25, "kind": "a"}, seed=7)
    found = lines(tmp_path)
    assert found[0][1].startswith("attempt 1 at search trial 0 of study s begins: ")
    assert found[0][1].endswith(f", process {os.getpid()}, cpu")
    assert found[1:4] == [
        ("hpo", "params x0=0.25 kind=a, seed 7"),
        ("step", "1/5 f1=0.123457 lr=0.001"),
        ("hpo", "recovery: lowered the learning rate"),
    ]
    assert re.fullmatch(r"attempt 1 ended after \d+\.\d s, finished: that was all", found[4][1])
    run(act, attempt=2, reported=1)
    found = lines(tmp_path)
    assert "attempt 2 at search trial 0 of study s begins, after step 1: " in found[5][1]
    assert found[7] == ("step", "2/5 f1=0.123457 lr=0.001")


def test_a_traceback_stands_in_it(run: Any, tmp_path: Path) -> None:
    def act(job: Job, context: TrialContext) -> Outcome:
        raise ValueError("two\nlines")

    assert run(act).reason.kind is StopKind.ERROR
    texts = [text for _, text in lines(tmp_path)]
    assert "Traceback (most recent call last):" in texts
    assert "ValueError: two" in texts and "lines" in texts
    assert any(text.endswith("error: ValueError: two") for text in texts)


def test_what_answers_a_report_is_not_the_trials(tmp_path: Path) -> None:
    def send(point: Point) -> Decision:
        print("the driver's own")
        logging.getLogger("driver").warning("the driver's own")
        return GO_ON

    with TrialLog(make_job(folder=str(tmp_path)), "cpu") as log:
        log.passing(send)(Point(1, {"f1": 1.0}))
        print("the trial's")
    assert lines(tmp_path)[2:] == [("step", "1/5 f1=1"), ("out", "the trial's")]


def test_a_folder_that_cannot_be_written_fails_no_trial_and_is_told_once(run: Any, tmp_path: Path) -> None:
    def act(job: Job, context: TrialContext) -> Outcome:
        print("into the void")
        context.report(1, f1=1.0)
        return DONE

    (tmp_path / "file").write_text("no folder")
    outcome = run(act, folder=str(tmp_path / "file" / "trial"))
    assert outcome.reason.kind is StopKind.FINISHED
    assert [event.kind for event in outcome.events] == ["log_failed"]
    assert "Not a directory" in outcome.events[0].message


def test_a_full_disk_fails_no_trial_and_is_told_once(run: Any, small_disk: Path) -> None:
    def act(job: Job, context: TrialContext) -> Outcome:
        for _ in range(25_000):
            print("x" * 100)
        context.report(1, f1=1.0)
        return DONE

    outcome = run(act, folder=str(small_disk / "trial"))
    assert outcome.reason.kind is StopKind.FINISHED
    assert [event.kind for event in outcome.events] == ["log_failed"]
    assert outcome.events[0].message.endswith("could not be written: No space left on device. The trial went on.")


def test_events_of_the_outcome_stand_in_it(run: Any, tmp_path: Path) -> None:
    run(lambda job, context: Outcome(DONE.reason, events=(Event("odd", "was odd"),)))
    assert ("hpo", "odd: was odd") in lines(tmp_path)
