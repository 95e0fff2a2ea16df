"""Every use case as one function; the only room where the concrete parts are put together."""

from hpo.service.checkpoints import export_checkpoint
from hpo.service.exchanging import Exported, Imported, export_trials, import_trials
from hpo.service.keeping import delete, make_data
from hpo.service.looking import choose, dashboard, get_trial, plot_run, report, snapshot, summaries
from hpo.service.preflighting import preflight, suggested_budget
from hpo.service.pruning import Why, why
from hpo.service.rerunning import Rerun, rerun
from hpo.service.running import Launched, check, launch
from hpo.service.shipping import Retrained, export, retrain, verify
from hpo.service.stopping import Stopping, stop
from hpo.service.strategies import narrow
from hpo.service.training import Trained, TrainOrder, run_name, train
from hpo.service.validating import Validated, validate

__all__ = [
    "Exported",
    "Imported",
    "Launched",
    "Rerun",
    "Retrained",
    "Stopping",
    "TrainOrder",
    "Trained",
    "Validated",
    "Why",
    "check",
    "choose",
    "dashboard",
    "delete",
    "export",
    "export_checkpoint",
    "export_trials",
    "get_trial",
    "import_trials",
    "launch",
    "make_data",
    "narrow",
    "plot_run",
    "preflight",
    "report",
    "rerun",
    "retrain",
    "run_name",
    "snapshot",
    "stop",
    "suggested_budget",
    "summaries",
    "train",
    "validate",
    "verify",
    "why",
]
