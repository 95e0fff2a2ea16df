"""A study while it runs: ask · report · finish · resume. And the same verbs over a given list.

Knows neither Optuna nor SQL nor Ray: it speaks to a ``SearchRole`` and a ``Store``, and is
spoken to by a runner through ``JobSource``.
"""

from hpo.study.fixed import FixedJobs, FixedRun
from hpo.study.jobs import make_job, trial_folder
from hpo.study.searching import Study

__all__ = ["FixedJobs", "FixedRun", "Study", "make_job", "trial_folder"]
