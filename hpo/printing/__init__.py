"""What commands print: tables for people, JSON and CSV for programs."""

from hpo.printing.arguments import export_source, named_values, policy, whole_numbers
from hpo.printing.preflight import show_checked
from hpo.printing.shipping import show_bundle, show_retrained, show_validated, show_verified
from hpo.printing.studies import front_rows, launch_summary, objective_rows, show_choice, show_study, summary_rows
from hpo.printing.tables import Row, print_json, show
from hpo.printing.training import show_trained

__all__ = [
    "Row",
    "export_source",
    "front_rows",
    "launch_summary",
    "named_values",
    "objective_rows",
    "policy",
    "print_json",
    "show",
    "show_bundle",
    "show_checked",
    "show_choice",
    "show_retrained",
    "show_study",
    "show_trained",
    "show_validated",
    "show_verified",
    "summary_rows",
    "whole_numbers",
]
