"""What commands print: tables for people, JSON and CSV for programs."""

from hpo.printing.arguments import devices, export_source, named_values, policy, run_of, top_share, whole_numbers
from hpo.printing.comparing import show_side_by_side
from hpo.printing.databases import show_examination, upgraded_lines
from hpo.printing.exchanging import exported_lines, show_imported
from hpo.printing.fronts import front_rows, show_front
from hpo.printing.launches import show_launches
from hpo.printing.model_diff import show_model_diff
from hpo.printing.models import (
    show_labelled,
    show_published,
    show_pulled,
    show_version,
    show_versions,
)
from hpo.printing.predicting import counted, show_predictions, show_saved
from hpo.printing.preflight import show_checked
from hpo.printing.pruning import show_why
from hpo.printing.reproducing import show_reproduced
from hpo.printing.retention import show_pruned, show_pruning
from hpo.printing.running import show_rerun, show_stopping, stop_words
from hpo.printing.shipping import show_bundle, show_retrained, show_validated, show_verified
from hpo.printing.simulating import show_comparison, show_preview, typed_pruners
from hpo.printing.studies import launch_summary, objective_rows, show_choice, show_study, summary_rows
from hpo.printing.tables import Row, print_json, show
from hpo.printing.training import show_trained
from hpo.printing.watching import show_happenings, watch_begun, watch_over

__all__ = [
    "Row",
    "counted",
    "devices",
    "export_source",
    "exported_lines",
    "front_rows",
    "launch_summary",
    "named_values",
    "objective_rows",
    "policy",
    "print_json",
    "run_of",
    "show",
    "show_bundle",
    "show_checked",
    "show_choice",
    "show_comparison",
    "show_examination",
    "show_front",
    "show_happenings",
    "show_imported",
    "show_labelled",
    "show_launches",
    "show_model_diff",
    "show_predictions",
    "show_preview",
    "show_pruned",
    "show_pruning",
    "show_published",
    "show_pulled",
    "show_reproduced",
    "show_rerun",
    "show_retrained",
    "show_saved",
    "show_side_by_side",
    "show_stopping",
    "show_study",
    "show_trained",
    "show_validated",
    "show_verified",
    "show_version",
    "show_versions",
    "show_why",
    "stop_words",
    "summary_rows",
    "top_share",
    "typed_pruners",
    "upgraded_lines",
    "watch_begun",
    "watch_over",
    "whole_numbers",
]
