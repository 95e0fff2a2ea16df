"""Hyperparameter studies for PyTorch models, kept, pruned, fronted, shipped.

From Python and notebooks:

    import hpo

    study = hpo.launch("study.yaml")     # or a dictionary with the fields of a study file
    study = hpo.open_study("my-study")   # one that is stored already
    study.front()                        # a pandas frame; so are trials() and curves()
    study.best().params
    study.plot_front()                   # a plotly figure
    hpo.studies()                        # every study of the database

docs/notebook.md has every name; the command line (``hpo --help``) does the same and more.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpo.adoption import adopt, adopt_lightning, adopt_trainer
    from hpo.errors import HpoError, UserError, WorkError
    from hpo.notebook import BestTrial, Interrupted, StudyView, launch, open_study, studies

__version__ = "0.1.0"

__all__ = [
    "BestTrial",
    "HpoError",
    "Interrupted",
    "StudyView",
    "UserError",
    "WorkError",
    "__version__",
    "adopt",
    "adopt_lightning",
    "adopt_trainer",
    "launch",
    "open_study",
    "studies",
]

# Where each public name is defined; loaded when it is first used, so that ``import hpo`` costs nothing.
_HOMES = {
    **dict.fromkeys(("adopt", "adopt_lightning", "adopt_trainer"), "hpo.adoption"),
    **dict.fromkeys(("HpoError", "UserError", "WorkError"), "hpo.errors"),
    **dict.fromkeys(("BestTrial", "Interrupted", "StudyView", "launch", "open_study", "studies"), "hpo.notebook"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hpo' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
