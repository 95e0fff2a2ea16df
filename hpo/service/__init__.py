"""Every use case as one function; the only room where the concrete parts are put together."""

from hpo.service.checkpoints import export_checkpoint
from hpo.service.databases import Examination, Upgraded, backup_database, check_database, upgrade_database
from hpo.service.exchanging import Exported, Imported, export_trials, import_trials
from hpo.service.keeping import delete, make_data
from hpo.service.looking import choose, dashboard, get_trial, plot_run, report, snapshot, summaries
from hpo.service.preflighting import preflight, suggested_budget
from hpo.service.pruning import Why, why
from hpo.service.rerunning import Rerun, rerun
from hpo.service.running import Launched, check, launch
from hpo.service.shipping import Retrained, export, retrain, verify
from hpo.service.simulating import Comparison, Preview, compare_pruners, preview
from hpo.service.stopping import Stopping, stop
from hpo.service.strategies import narrow
from hpo.service.training import Trained, TrainOrder, run_name, train
from hpo.service.validating import Validated, validate

__all__ = [
    "Comparison",
    "Examination",
    "Exported",
    "Imported",
    "Launched",
    "Preview",
    "Rerun",
    "Retrained",
    "Stopping",
    "TrainOrder",
    "Trained",
    "Upgraded",
    "Validated",
    "Why",
    "backup_database",
    "check",
    "check_database",
    "choose",
    "compare_pruners",
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
    "preview",
    "report",
    "rerun",
    "retrain",
    "run_name",
    "snapshot",
    "stop",
    "suggested_budget",
    "summaries",
    "train",
    "upgrade_database",
    "validate",
    "verify",
    "why",
]
