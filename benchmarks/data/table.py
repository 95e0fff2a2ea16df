"""Write a recorded study's curves as CSV: trial, step, and one column per goal.

python benchmarks/data/table.py pruning-digits sqlite:///hpo.db > benchmarks/data/digits.csv
"""

import csv
import sys

from hpo import service
from hpo.trial import TrialState

study, storage = sys.argv[1:]
found = service.snapshot(storage, study)
names = [goal.metric for goal in found.study.goals]
writer = csv.writer(sys.stdout, lineterminator="\n")
writer.writerow(["trial", "step", *names])
for trial in found.trials:
    if trial.state is TrialState.COMPLETE:
        for point in trial.points:
            writer.writerow([trial.number, point.step, *(f"{point.metrics[name]:.7g}" for name in names)])
