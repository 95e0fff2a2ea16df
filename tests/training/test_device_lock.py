import fcntl
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import torch

from hpo.errors import WorkError
from hpo.training.device_lock import DeviceLock, alone, lock_folder

CPU = torch.device("cpu")


def start(body: str) -> "subprocess.Popen[str]":
    """Another process that runs ``body`` and says ``ready`` when it gets there."""
    head = "import time, torch\nfrom hpo.training.device_lock import DeviceLock, alone\ncpu = torch.device('cpu')\n"
    process = subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(body)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def want_file() -> Path:
    return next(lock_folder().glob("*.want"))


def is_free_for_measuring() -> bool:
    with next(lock_folder().glob("*.lock")).open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_trials_share_a_device_and_step_aside_for_a_measurement_in_another_process() -> None:
    with DeviceLock(CPU) as lock, DeviceLock(CPU):  # two trials
        pass
    with DeviceLock(CPU) as lock:
        before = lock.paused_s  # what taking it took
        lock.pause_if_wanted()
        assert lock.paused_s == before
        measurer = start("""
            print("ready", flush=True)
            with alone(cpu):
                time.sleep(0.3)
        """)
        ends = time.monotonic() + 60
        while measurer.poll() is None and time.monotonic() < ends:
            time.sleep(0.005)
            lock.pause_if_wanted()
        assert measurer.wait(10) == 0
        assert lock.paused_s - before >= 0.29
        assert want_file().stat().st_size == 0
        assert not is_free_for_measuring()  # taken back
    assert is_free_for_measuring()


def test_a_measurement_waits_until_every_trial_stands_aside() -> None:
    trainer = start("""
        with DeviceLock(cpu) as lock:
            print("ready", flush=True)
            input()
            for _ in range(1000):
                lock.pause_if_wanted()
                if lock.paused_s > 0.01: break
                time.sleep(0.005)
    """)
    began = time.perf_counter()

    def let_go() -> None:
        time.sleep(0.2)
        assert trainer.stdin is not None
        trainer.stdin.write("\n")
        trainer.stdin.flush()

    waker = threading.Thread(target=let_go)
    waker.start()
    with alone(CPU):
        assert time.perf_counter() - began >= 0.2
    waker.join()
    assert trainer.wait(60) == 0


def test_a_killed_measurer_stops_nobody() -> None:
    measurer = start("""
        with alone(cpu):
            print("ready", flush=True)
            time.sleep(600)
    """)
    assert want_file().stat().st_size == 1
    measurer.kill()
    measurer.wait()
    assert want_file().stat().st_size == 1  # the byte it left
    with DeviceLock(CPU) as lock:
        assert want_file().stat().st_size == 0
        os.truncate(want_file(), 1)
        lock.pause_if_wanted()
        assert want_file().stat().st_size == 0
        assert not is_free_for_measuring()  # it waited for nobody, and has its share


def test_a_killed_trainer_blocks_no_measurement() -> None:
    trainer = start("""
        DeviceLock(cpu).take()
        print("ready", flush=True)
        time.sleep(600)
    """)
    trainer.kill()
    trainer.wait()
    with alone(CPU):
        pass


def test_a_trial_that_measures_does_not_wait_for_itself() -> None:
    with DeviceLock(CPU):
        with alone(CPU):
            assert want_file().stat().st_size == 1
        assert not is_free_for_measuring()  # its own share is back


def test_a_look_costs_microseconds() -> None:
    with DeviceLock(CPU) as lock:
        lock.pause_if_wanted()
        began = time.thread_time()  # of the processor, which others take no part of
        for _ in range(1000):
            lock.pause_if_wanted()
        assert time.thread_time() - began < 0.1  # 0.002 s measured; room for a slow machine


def test_the_folder_is_private_and_its_name_can_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_locks: Path
) -> None:
    assert lock_folder() == own_locks
    monkeypatch.delenv("HPO_LOCK_DIR")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert lock_folder().stat().st_mode & 0o777 == 0o700
    assert str(os.getuid()) in lock_folder().name
    (tmp_path / "file").touch()
    monkeypatch.setenv("HPO_LOCK_DIR", str(tmp_path / "file" / "below"))
    with pytest.raises(WorkError, match="HPO_LOCK_DIR"):
        lock_folder()
