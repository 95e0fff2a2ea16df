"""Every use case as one function; the only room where the concrete parts are put together."""

from hpo.service.annotating import annotate, tag
from hpo.service.browsing import dashboard
from hpo.service.checkpoints import export_checkpoint
from hpo.service.comparing import compare, write_comparison
from hpo.service.databases import Examination, Upgraded, backup_database, check_database, upgrade_database
from hpo.service.exchanging import Exported, Imported, export_trials, import_trials
from hpo.service.keeping import delete, make_data
from hpo.service.logs import Happening, happenings, trial_log
from hpo.service.looking import choose, get_trial, plot_run, report, snapshot, summaries
from hpo.service.predicting import Predictions, predicting
from hpo.service.preflighting import preflight, suggested_budget
from hpo.service.pruning import Why, why
from hpo.service.registry.diff import ModelDiff
from hpo.service.registry.labelling import Labelled, label_version
from hpo.service.registry.publishing import Published, publish
from hpo.service.registry.reading import ShownVersion, diff_versions, models, opened, pull, show_version
from hpo.service.reproducing import Reproduced, reproduce
from hpo.service.rerunning import Rerun, rerun
from hpo.service.retention import Pruning, prune_artifacts
from hpo.service.running import Launched, StudyText, check, launch
from hpo.service.shipping import Retrained, export, retrain, verify
from hpo.service.simulating import Comparison, Preview, compare_pruners, preview
from hpo.service.stopping import Stopping, stop
from hpo.service.strategies import narrow
from hpo.service.training import Trained, TrainOrder, run_name, train
from hpo.service.validating import Validated, validate
from hpo.service.watching import Watched, watch

__all__ = [
    "Comparison",
    "Examination",
    "Exported",
    "Happening",
    "Imported",
    "Labelled",
    "Launched",
    "ModelDiff",
    "Predictions",
    "Preview",
    "Pruning",
    "Published",
    "Reproduced",
    "Rerun",
    "Retrained",
    "ShownVersion",
    "Stopping",
    "StudyText",
    "TrainOrder",
    "Trained",
    "Upgraded",
    "Validated",
    "Watched",
    "Why",
    "annotate",
    "backup_database",
    "check",
    "check_database",
    "choose",
    "compare",
    "compare_pruners",
    "dashboard",
    "delete",
    "diff_versions",
    "export",
    "export_checkpoint",
    "export_trials",
    "get_trial",
    "happenings",
    "import_trials",
    "label_version",
    "launch",
    "make_data",
    "models",
    "narrow",
    "opened",
    "plot_run",
    "predicting",
    "preflight",
    "preview",
    "prune_artifacts",
    "publish",
    "pull",
    "report",
    "reproduce",
    "rerun",
    "retrain",
    "run_name",
    "show_version",
    "snapshot",
    "stop",
    "suggested_budget",
    "summaries",
    "tag",
    "train",
    "trial_log",
    "upgrade_database",
    "validate",
    "verify",
    "watch",
    "why",
    "write_comparison",
]
