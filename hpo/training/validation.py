"""The validation of an epoch, done again with smaller batches where memory runs out."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from torch import Tensor

from hpo.training.batches import Batches, Loading, make_batches
from hpo.training.evaluate import evaluate_batches
from hpo.training.process import release_memory
from hpo.training.recovery import first_line, is_out_of_memory
from hpo.training.seeds import rng_state, set_rng_state
from hpo.training.state import RunState
from hpo.trial import Metrics


class Validation:
    """Judges the model of ``state`` on its task's validation set; ``batch_size`` is what fits so far.

    Args:
        event: takes a kind and a message, as ``TrialContext.event`` does.

    Raises:
        TrialFailed: the validation set is empty, or its tensors differ in length.
    """

    def __init__(self, state: RunState, event: Callable[..., None]) -> None:
        self._state, self._event = state, event
        self.batch_size = state.settings.eval_batch_size or 4 * state.settings.batch_size
        self._batches = self._make()

    def run(self, between: Callable[[], None]) -> tuple[Metrics, Tensor, Tensor]:
        """Metrics with ``val_loss``, outputs and targets; ``between`` is called after each batch.

        What draws random numbers in it draws the same ones when it is done again.
        """
        state, updater = self._state, self._state.updater
        before = state.rng_before = rng_state(state.device)
        while True:
            try:
                set_rng_state(before, state.device)
                metrics, outputs, targets = evaluate_batches(
                    updater.model,
                    self._batches,
                    state.task.validation,
                    state.task.loss,
                    updater.precision,
                    between,
                    updater.team,
                    weigh=state.task.weigh,
                    keep=state.task.keep,
                )
                state.rng_before = None
                return {"val_loss": metrics.pop("loss"), **metrics}, outputs, targets
            except Exception as error:
                if not is_out_of_memory(error) or self.batch_size == 1 or updater.team.size > 1:
                    raise
                # The frames hold the very tensors for which there was no room.
                traceback.clear_frames(error.__traceback__)
                told = first_line(error)
            self._halve(told)

    def _halve(self, told: str) -> None:
        release_memory(self._state.device)
        before = self.batch_size
        self.batch_size = before // 2
        self._batches = self._make()
        self._event(
            "recovery",
            f"Out of memory while evaluating batches of {before} ({told}). Evaluating batches of {before // 2}.",
            cause="evaluation",
            epoch=self._state.epoch + 1,
            eval_batch_size=self.batch_size,
        )

    def _make(self) -> Batches:
        state = self._state
        return make_batches(
            state.task.validation, "validation", self.batch_size, state.device, loading=Loading.of(state.settings)
        )
