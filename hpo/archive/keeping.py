"""Keeping the artifacts of trials as they end, beside the study.

A thread copies logs and has pictures drawn (``hpo.archive.drawing``); what it has kept is
written to the database from the driver's own calls. A file's name at its place is its
artifact's id, which is where Optuna's artifact stores look for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import re
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from hpo import places
from hpo.archive.drawing import Drawer
from hpo.aside import Aside
from hpo.errors import StorageError
from hpo.interrupt import Interrupt
from hpo.places import Folder, Place
from hpo.runners import trial_log
from hpo.spec import ArtifactsSpec
from hpo.study.jobs import trial_name
from hpo.trial import Event, Job, Point, TrialRecord
from storage import artifacts, codec
from storage.database import Database
from storage.records import ArtifactRecord, Snapshot
from storage.studies import StoredStudy, Studies

FOLDER = "artifacts"  # in the study's own, where no other place is named
PICTURE, LOGGED = "picture", "log"

_WORTH_S = 2.0  # a shorter trial gets no picture: drawing one takes about as long
_PATIENCE_S = 20.0  # for pictures when a launch ends
_EVERY_S = 1.0  # between two transactions
_MOST_WAITING = 1000  # trials in memory until they are drawn, or can be kept


@dataclass
class _Ended:
    """A trial that ended, and what there is still to keep of it."""

    job: Job
    record: TrialRecord
    left: set[str] = field(default_factory=lambda: {LOGGED})


class Archive:
    """Keeps of each ended trial its log, and a picture where the trial was no matter of a moment.

    Listens to a study, between ``__enter__`` and ``__exit__``. What cannot be kept is tried again
    with the next trial and at the end, and trials go on.
    """

    def __init__(
        self, database: Database, studies: Studies, study: StoredStudy, spec: ArtifactsSpec, interrupt: Interrupt
    ) -> None:
        self._database, self._studies, self._study, self._interrupt = database, studies, study, interrupt
        self._place: Place = places.parse(spec.place) if spec.place else Folder(Path(study.folder) / FOLDER)
        self._aside = Aside(studies, study, "artifacts_failed", f"Artifacts at {self._place}")
        self._drawer = Drawer()
        self._draws = spec.pictures
        self._began: dict[int, tuple[Job, float]] = {}
        self._kept: queue.SimpleQueue[ArtifactRecord] = queue.SimpleQueue()
        self._written_at = time.monotonic()
        self._is_ready = False  # whether the process that draws was asked for
        self._given = 0
        # The thread's alone:
        self._taken = 0
        self._failed: list[_Ended] = []
        self._undrawn = 0

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is still to be kept: for pictures ``_PATIENCE_S``, and not at all when there is a hurry."""
        is_hurried = kind is not None or self._interrupt.requested
        if is_hurried:
            self._stop_drawing()
        patience = threading.Timer(_PATIENCE_S, self._stop_drawing)
        patience.daemon = True
        patience.start()
        self._aside.do(self._try_again)
        self._aside.close()
        patience.cancel()
        self._stop_drawing()
        with contextlib.suppress(StorageError):  # the database is gone; its own error says more
            self._write()
            self._tell_what_is_missing()

    def started(self, job: Job) -> None:
        self._began[job.number] = (job, time.monotonic())
        self._pass_on()

    def reported(self, number: int, point: Point) -> None:
        if self._draws and not self._is_ready and self._is_worth_it(number):
            self._is_ready = True
            self._aside.do(self._get_ready)
        self._pass_on()

    def finished(self, record: TrialRecord) -> None:
        is_worth_it = self._is_worth_it(record.number)
        job, _ = self._began.pop(record.number)
        if record.state.is_finished:
            ended = _Ended(job, record)
            if self._draws and is_worth_it and record.points:
                ended.left.add(PICTURE)
            self._given += 1
            self._aside.do(lambda: self._keep(ended))
        self._pass_on()

    def _is_worth_it(self, number: int) -> bool:
        job, began = self._began[number]
        return job.resume or time.monotonic() - began >= _WORTH_S

    def _pass_on(self) -> None:
        self._aside.tell()
        if time.monotonic() - self._written_at >= _EVERY_S:
            self._write()

    def _write(self) -> None:
        kept = []
        while not self._kept.empty():
            kept.append(self._kept.get())
        artifacts.add(self._database, self._study.id, kept)
        self._written_at = time.monotonic()

    def _tell_what_is_missing(self) -> None:
        if self._undrawn:
            told = (
                f"{self._undrawn} trials have no picture: drawing did not keep up with them. "
                f"hpo plot-run {self._study.name} --trial N draws any."
            )
            self._studies.add_event(self._study, Event("pictures_left_out", told))
        if self._failed:
            numbers = [ended.record.number for ended in self._failed]
            told = f"Of {len(numbers)} trials not all artifacts were kept at {self._place}."
            self._studies.add_event(self._study, Event("artifacts_failed", told, {"trials": numbers}))

    # The thread's side

    def _get_ready(self) -> None:
        if self._draws:
            self._drawer.start()

    def _stop_drawing(self) -> None:
        self._draws = False
        self._drawer.close()

    def _keep(self, ended: _Ended) -> None:
        self._taken += 1
        if PICTURE in ended.left and self._given - self._taken > _MOST_WAITING:
            ended.left.discard(PICTURE)
            self._undrawn += 1
        self._failed.append(ended)
        del self._failed[:-_MOST_WAITING]
        self._try_again()

    def _try_again(self) -> None:
        """Keep what is left of all that failed, and of the last one to end.

        A place that fails ends it. A log that cannot be read, or a picture that cannot be drawn, is passed over.
        """
        trouble: OSError | None = None
        while self._failed:
            ended = self._failed[0]
            for kind, suffix, content_of in ((LOGGED, "txt", self._log), (PICTURE, "png", self._picture)):
                if kind in ended.left:
                    try:
                        content = content_of(ended)
                    except OSError as error:
                        trouble, content = error, None
                    if content is not None:
                        self._put(ended, kind, f"{trial_name(ended.job.series, ended.job.number)}.{suffix}", content)
                    ended.left.discard(kind)
            del self._failed[0]
        if trouble is not None:
            raise trouble

    def _log(self, ended: _Ended) -> bytes | None:
        log = Path(ended.job.folder) / trial_log.FILE
        return log.read_bytes() if log.is_file() else None

    def _picture(self, ended: _Ended) -> bytes | None:
        recoveries = tuple(self._studies.events(self._study, "recovery"))
        known = Snapshot(self._study.record, (), events=recoveries)
        try:
            if self._draws:
                return self._drawer.draw(known, ended.record, ended.job.series, Path(ended.job.folder))
        except OSError:
            if self._draws:
                raise
        self._undrawn += 1  # it has been stopped
        return None

    def _put(self, ended: _Ended, kind: str, filename: str, content: bytes) -> None:
        artifact_id = str(uuid.uuid4())
        try:
            self._place.make()
            # Not worth a sync each: the log lies in the trial's folder too, a picture can be drawn again.
            self._place.fill(artifact_id, lambda path: path.write_bytes(content), sync=False)
        except OSError as error:
            raise OSError(_cause(error, artifact_id)) from error
        self._kept.put(
            ArtifactRecord(
                artifact_id, ended.job.series, ended.job.number, kind, filename, len(content),
                hashlib.sha256(content).hexdigest(), codec.now(), str(self._place),
            )
        )  # fmt: skip


def _cause(error: OSError, name: str) -> str:
    """Why a file could not be kept, without what differs from file to file, so that one cause is told once."""
    return re.sub(r" \(Request ID: [^)]*\)", "", (error.strerror or str(error)).replace(name, "FILE"))
