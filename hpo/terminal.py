"""The terminal around a command: Ctrl-C, the live table, messages, the line that goes on with it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hpo.masking import masked, printable

if TYPE_CHECKING:
    from hpo.interrupt import Interrupt
    from hpo.service import TrainOrder

DEFAULT_STORAGE = "sqlite:///hpo.db"


@contextmanager
def stopping_on_signals(command: str, *, keeps: bool = True) -> Iterator[Interrupt]:
    """The first Ctrl-C (or SIGTERM) asks everything to stop with a checkpoint; the second leaves.

    ``command`` goes on with what was done; where nothing of it stays (not ``keeps``), it begins again.
    """
    from hpo.interrupt import Interrupt

    interrupt = Interrupt()
    how, further = (
        ("as soon as a checkpoint is kept", "Go on") if keeps else ("without keeping anything", "Begin again")
    )

    def on_signal(number: int, frame: object) -> None:
        # Not through rich and not through sys.stderr: the code that this handler interrupts
        # may hold their locks.
        if interrupt.at_once:
            # No cleanup: every acknowledged report is committed, and the next launch settles the rest.
            os.write(2, f"\nLeft at once. {further} with: {command}\n".encode())
            os._exit(130)
        interrupt.request()
        notice = f"Stopping {how} (again: leave at once). {further} with: {command}"
        if not any(table.notify(notice) for table in _tables):
            os.write(2, f"\n{notice}\n".encode())

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
        if interrupt.how == "stopped":
            say(f"Stopped by hpo stop. Go on with: {command}")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def live_table(first: str | None = None) -> Iterator[Callable[..., Any]]:
    """A maker of listeners that shows progress on stderr, closed on leaving; ``first`` is said before the table."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def make(plan: Any, ended: Any) -> list[Any]:
            from hpo.reports.live import LiveTable

            if first is not None:
                say(first)
            table = LiveTable(plan.goals, plan.spec.budget.trials, already=ended)
            stack.callback(_tables.remove, table)
            _tables.append(table)
            return [stack.enter_context(table)]

        yield make


_tables: list[Any] = []  # the live tables on the terminal, for the signal handler


@contextmanager
def left_quietly() -> Iterator[None]:
    """Ctrl-C ends a command that only looks on, without a word."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def command_line(command: str, **options: Any) -> str:
    """The command line that goes on with what is being done, with the options that were not the defaults."""
    words = ["hpo", command] if command else ["hpo"]
    for name, value in options.items():
        if value is None or (
            name == "storage" and (value == DEFAULT_STORAGE or os.environ.get("HPO_STORAGE") == value)
        ):
            continue
        if name == "runs" and (value == Path("runs") or os.environ.get("HPO_RUNS") == str(value)):
            continue
        if name == "ray_address" and os.environ.get("HPO_RAY_ADDRESS") == value:
            continue
        # A terminal keeps what it shows.
        words += [f"--{name.replace('_', '-')}", shlex.quote(masked(str(value)))]
    return " ".join(words)


def train_line(order: TrainOrder, sets: Sequence[str], data: Sequence[str], **options: Any) -> str:
    """The command line that goes on with a single training run."""
    words = ["train", *([order.objective] if order.objective else [])]
    words += [word for text in sets for word in ("--set", text)]
    words += [word for text in data for word in ("--data", text)]
    usual = {"epochs": None, "seed": None, "accelerator": "cpu", "devices": 1, "runner": "inline"}
    for name in ("name", "resume", "epochs", "seed", "accelerator", "devices", "runner"):
        value = getattr(order, name)
        if value is not None and value != usual.get(name):
            words += [f"--{name}", str(value)]
    return command_line(shlex.join([*words, *(["--smoke"] if order.smoke else [])]), **options)


def write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        fail(f"{path} exists already; hpo never overwrites a study file.", 2)
    except OSError as error:
        fail(f"Cannot write {path}: {error.strerror}.", 2)


def say(text: str) -> None:
    # Not typer.echo: it keeps the real stderr, and would write into the middle of the live table.
    print(printable(text), file=sys.stderr, flush=True)


def fail(message: str, code: int) -> NoReturn:
    say(f"hpo: {message}")
    raise SystemExit(code)
