"""Every use case as one function; the only room where the concrete parts are put together."""

from hpo.service.keeping import delete, make_data
from hpo.service.looking import choose, dashboard, get_trial, report, snapshot, summaries
from hpo.service.running import Launched, check, launch
from hpo.service.shipping import Retrained, export, retrain, verify

__all__ = [
    "Launched",
    "Retrained",
    "check",
    "choose",
    "dashboard",
    "delete",
    "export",
    "get_trial",
    "launch",
    "make_data",
    "report",
    "retrain",
    "snapshot",
    "summaries",
    "verify",
]
