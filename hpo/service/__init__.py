"""Every use case as one function; the only room where the concrete parts are put together."""

from hpo.service.checkpoints import export_checkpoint
from hpo.service.keeping import delete, make_data
from hpo.service.looking import choose, dashboard, get_trial, plot_run, report, snapshot, summaries
from hpo.service.preflighting import preflight
from hpo.service.running import Launched, check, launch
from hpo.service.shipping import Retrained, export, retrain, verify
from hpo.service.training import Trained, TrainOrder, run_name, train
from hpo.service.validating import Validated, validate

__all__ = [
    "Launched",
    "Retrained",
    "TrainOrder",
    "Trained",
    "Validated",
    "check",
    "choose",
    "dashboard",
    "delete",
    "export",
    "export_checkpoint",
    "get_trial",
    "launch",
    "make_data",
    "plot_run",
    "preflight",
    "report",
    "retrain",
    "run_name",
    "snapshot",
    "summaries",
    "train",
    "validate",
    "verify",
]
