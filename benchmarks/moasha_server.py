"""Syne Tune's MOASHA behind a pipe: one JSON line in, one out. For ``pruning_peers.Moasha``, in Syne Tune's Python."""

import json
import sys

from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import uniform
from syne_tune.optimizer.scheduler import SchedulerDecision
from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

scheduler = None
trials = {}
for line in sys.stdin:
    message = json.loads(line)
    answer = False
    if "goals" in message:
        scheduler = MOASHA(
            {"x": uniform(0, 1)}, metrics=message["goals"], time_attr="step", max_t=message["epochs"], random_seed=0
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
