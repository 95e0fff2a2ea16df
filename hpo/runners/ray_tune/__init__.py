"""Trials on Ray: the only room that knows it. It speaks to a ``JobSource`` and no more.

``driving`` has the jobs, ``crew`` the workers, ``serving`` a worker's side, ``words`` what they
say to each other, ``cluster`` the machines, ``modules`` the user's code.
"""

from __future__ import annotations

import os

from hpo.errors import RunnerFailed, UserError
from hpo.roles import JobSource
from hpo.runners import HERE, Site

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is the CLI's business
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # our database is the checkpoint
    "RAY_AIR_NEW_OUTPUT": "0",
}
for _name, _value in _SETTINGS.items():  # Ray reads some of them when it is imported
    os.environ.setdefault(_name, _value)


def run(source: JobSource, *, workers: int = 1, cpus: float = 1, gpus: float = 0, site: Site = HERE) -> None:
    """Run every job of ``source``, up to ``workers`` at a time, each with ``cpus`` and ``gpus``.

    A local Ray is started, unless ``site`` names a cluster, this process is connected to one,
    or nothing is to run; ``close`` ends it.

    Raises:
        UserError: there is no such cluster, or a node of it does not see what it must.
        RunnerFailed: Ray does not start, breaks, or cannot give one trial what it needs.
    """
    # Not above: every process that Ray starts for us comes by here, and Ray Tune takes seconds.
    from hpo.runners.ray_tune import cluster
    from hpo.runners.ray_tune.driving import Driver

    driver = Driver(source, workers)
    if site.ray_address is not None:
        cluster.connect(site.ray_address, gpus)
        cluster.check_shared(site.checkpoints)
    if not driver.has_work:
        return
    from hpo.runners.ray_tune.crew import Crew
    from hpo.runners.ray_tune.modules import Modules

    try:
        cluster.connect(site.ray_address, gpus)
        cluster.check_room(cpus, gpus)
        modules = Modules() if cluster.is_single() else Modules.of(site.code)
        with cluster.quiet(), Crew(workers, cpus, gpus, modules) as crew:
            driver.drive(crew)
    except (RunnerFailed, UserError):
        driver.give_up()
        raise


def close() -> None:
    """End the Ray that ``run`` started; one that somebody else started stays."""
    from hpo.runners.ray_tune import cluster

    cluster.disconnect()
