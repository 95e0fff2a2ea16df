"""Syne Tune's MOASHA behind a pipe: one JSON line in, one out. For ``pruning_peers.Moasha``, in Syne Tune's Python."""

import json
import sys

import numpy as np
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import uniform
from syne_tune.optimizer.scheduler import SchedulerDecision
from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA
from syne_tune.optimizer.schedulers.multiobjective.multiobjective_priority import NonDominatedPriority


class Ranks(NonDominatedPriority):
    """What ``NonDominatedPriority`` says of three vectors, the worst first, is [1, 2, 0]: their order.

    Its caller takes that for the priority of each, which is [2, 0, 1].
    """

    def priority_unsafe(self, objectives):
        return np.argsort(super().priority_unsafe(objectives))


scheduler = None
trials = {}
for line in sys.stdin:
    message = json.loads(line)
    answer = False
    if "goals" in message:
        priority = Ranks() if message["mended"] else None
        scheduler = MOASHA(
            {"x": uniform(0, 1)},
            metrics=message["goals"],
            time_attr="step",
            max_t=message["epochs"],
            random_seed=0,
            multiobjective_priority=priority,
        )
    elif "begin" in message:
        number = message["begin"]
        trials[number] = Trial(number, {"x": 0.5}, None)
        scheduler.on_trial_add(trials[number])
    else:
        result = {**message["metrics"], "step": message["step"]}
        if "report" in message:
            answer = scheduler.on_trial_result(trials[message["report"]], result) == SchedulerDecision.STOP
        else:
            scheduler.on_trial_complete(trials[message["complete"]], result)
    print(json.dumps(answer), flush=True)
