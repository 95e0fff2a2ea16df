"""A worker's side, in this process and without Ray's help: what it says, and when it stops."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hpo.runners.ray_tune.modules import Modules
from hpo.runners.ray_tune.serving import Worker
from hpo.runners.ray_tune.words import Ended, Word
from hpo.trial import Job
from tests.runners.jobs import make_job

LOOKING = """
from hpo.trial import Outcome, StopKind, StopReason
from objectives.analytic import Analytic
class Looking(Analytic):
    def run(self, job, context):
        kind = StopKind.INTERRUPTED if context.stop_requested else StopKind.FINISHED
        return Outcome(StopReason(kind, f"trial {job.number}"))
"""


def test_a_wish_to_stop_that_comes_before_its_job_has_begun_holds_for_that_job_alone(tmp_path: Path) -> None:
    (tmp_path / "looking.py").write_text(LOOKING)
    worker = Worker.__new__(Worker)
    worker.setup({}, device="cpu", modules=Modules(), started_in=str(Path.cwd()))

    def job(number: int, attempt: int) -> Job:
        where = {"import_from": str(tmp_path), "folder": str(tmp_path / "trial")}
        return make_job(number, attempt=attempt, objective="looking:Looking", **where)

    async def said() -> list[Word]:
        await worker.ask_to_stop(1, 2)
        return [await worker.go_on(one) for one in (job(0, 2), job(1, 1), job(1, 2), job(2, 1))]

    kinds = [word.outcome.reason.kind for word in asyncio.run(said()) if isinstance(word, Ended)]
    assert kinds == ["finished", "finished", "interrupted", "finished"]
