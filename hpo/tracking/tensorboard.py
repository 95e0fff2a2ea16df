"""TensorBoard: one folder of event files per trial, with its scalars and its hyperparameters.

Written with the package's own writer, which needs neither TensorFlow nor PyTorch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.study.jobs import trial_name
from hpo.tracking import _facts
from hpo.tracking._roles import TrackerOptions
from hpo.trial import Job, Params, Point, TrialRecord, TrialState
from storage.studies import StoredStudy

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

TITLE = "TensorBoard"
PACKAGE = "tensorboard"


class Options(TrackerOptions):
    """``folder``: holds one folder per study; None is ``tensorboard`` in the study's own."""

    folder: str | None = None


class Tracker:
    """The event files of one study."""

    def __init__(self, options: Options, study: StoredStudy) -> None:
        self._study = study
        self._folder = (
            Path(study.folder) / "tensorboard" if options.folder is None else Path(options.folder) / study.name
        )
        self._open: list[Run] = []

    def begin(self, job: Job) -> Run:
        folder = self._folder / trial_name(job.series, job.number)
        told = set(range(1, job.reported + 1)) if _settle(folder) else set()
        run = Run(folder, self._study, job.params, told)
        self._open = [*(other for other in self._open if other.is_open), run]
        return run

    def close(self) -> None:
        for run in self._open:
            run.close()
        self._open.clear()


class Run:
    """The event files of one trial; each attempt adds one."""

    def __init__(self, folder: Path, study: StoredStudy, params: Params, told: set[int]) -> None:
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer, self._study, self.told, self.is_open = EventFileWriter(str(folder)), study, told, True
        self._add(summary=hparams_pb({name: _plain(value) for name, value in params.items()}, trial_id=folder.name))

    def rewind(self, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog

        # TensorBoard takes a start at a step as word that what it has of it and later ones is void.
        self._add(step=step, session_log=SessionLog(status=SessionLog.START))

    def tell(self, points: Sequence[Point]) -> None:
        for point in points:
            self._add(step=point.step, summary=_scalars(point.metrics))
        self._writer.flush()

    def end(self, record: TrialRecord) -> None:
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add(step=record.last_step, summary=_scalars(_facts.last_metrics(record, self._study.goals)))
        words = "\n".join(f"- {name}: {value}" for name, value in _facts.of_end(record).items())
        self._add(step=record.last_step, summary=text_pb("end", words))
        if record.state.is_finished:
            self._add(summary=_session_end(record.state))
        self.close()

    def close(self) -> None:
        self.is_open = False
        self._writer.close()

    def _add(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), **fields))


def _settle(folder: Path) -> bool:
    """Whether an earlier attempt left files in ``folder``; then it returns once the next is read after them.

    They are read in the order of their names, ``events.out.tfevents.SECOND.HOST.PID.COUNT``.
    """
    seconds = [int(path.name.split(".")[3]) for path in folder.glob("events.out.tfevents.*")]
    if seconds:
        time.sleep(min(1.0, max(0.0, max(seconds) + 1 - time.time())))
    return bool(seconds)


def _scalars(metrics: Mapping[str, float]) -> Summary:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()])


def _session_end(state: TrialState) -> Summary:
    """The end of a run for the HParams page, which knows success and failure alone."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    status = api_pb2.STATUS_FAILURE if state is TrialState.FAIL else api_pb2.STATUS_SUCCESS
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    content = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
    return Summary(value=[Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=content)])


def _plain(value: object) -> bool | int | float | str:
    """A value that a hyperparameter may have there."""
    return value if isinstance(value, (bool, int, float, str)) else str(value)
