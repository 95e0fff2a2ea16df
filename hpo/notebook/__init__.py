"""Studies from Python and notebooks: launched, opened, looked at. ``import hpo`` has the public names."""

from hpo.notebook.launching import Interrupted, launch
from hpo.notebook.study import BestTrial, StudyView, open_study, studies

__all__ = ["BestTrial", "Interrupted", "StudyView", "launch", "open_study", "studies"]
