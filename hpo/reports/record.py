"""How a study came about and how to have it again: launches, versions, seeds, commands."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from hpo.launches import changes
from hpo.reports.facts import Facts, seconds_between
from hpo.reports.models import flat
from hpo.reports.wording import clock, duration, listed, shown

_MOST_CHANGES = 8
LAUNCH_COLUMNS = ("started", "ended", "took", "how", "host", "runner", "workers", "what it changed")


def launches(facts: Facts) -> list[tuple[str, ...]]:
    """Every launch, the first one first, with what differed from the one before."""
    rows: list[tuple[str, ...]] = []
    told = facts.snapshot.launches
    for launch, changed in zip(told, changes(told), strict=True):
        took = duration(seconds_between(launch.started_at, launch.ended_at))
        rows.append((
            clock(launch.started_at), clock(launch.ended_at), took, launch.ended_how or "–", launch.host,
            launch.runner, str(launch.workers), _said(changed) if rows else "the first",
        ))  # fmt: skip
    return rows


def _said(changed: list[str]) -> str:
    if not changed:
        return "nothing"
    more = f" and {len(changed) - _MOST_CHANGES} more" if len(changed) > _MOST_CHANGES else ""
    return "; ".join(changed[:_MOST_CHANGES]) + more


def environment(facts: Facts) -> list[tuple[str, str]]:
    """What the last launch ran on, a row per figure."""
    return flat(facts.snapshot.launches[-1].environment) if facts.snapshot.launches else []


def identity(facts: Facts) -> list[tuple[str, str]]:
    """What must be the same for the same results: digest, data, seeds, versions, commit."""
    study = facts.snapshot.study
    known: Mapping[str, Any] = facts.snapshot.launches[-1].environment if facts.snapshot.launches else {}
    rows = [("digest of the study", study.digest), ("fingerprint of the data", study.data_fingerprint)]
    seed = facts.setting("seed")
    rows.append(("seed of the study", shown(seed) if seed is not None else "0 (the study file names none)"))
    if facts.recommended is not None:
        rows.append((f"seed of trial {facts.recommended.number}", str(facts.recommended.seed)))
    rows.append(("deterministic", "yes" if facts.setting("deterministic") else "no: last digits may differ"))
    packages = known.get("packages")
    versions = dict(packages) if isinstance(packages, Mapping) else {}
    wanted = [name for name in ("hpo", "torch", "optuna", "ray", "numpy") if name in versions]
    if wanted:
        rows.append(("versions", listed([f"{name} {versions[name]}" for name in wanted])))
    if "python" in known:
        rows.append(("Python", shown(known["python"])))
    git = known.get("git")
    if isinstance(git, Mapping) and git.get("commit"):
        rows.append(
            ("commit", f"{git['commit']}{', with changes that were not committed' if git.get('dirty') else ''}")
        )
    return rows


def commands(facts: Facts) -> list[tuple[str, str]]:
    """How to come back to this: a command, and what it does."""
    name = shlex.quote(facts.snapshot.study.name)
    told = [("hpo launch study.yaml", "runs the study file above, or goes on with it")]
    pick = f" --pick {shlex.quote(facts.policy)}" if isinstance(facts.policy, str) else ""
    if facts.recommended is not None:
        told.append((f"hpo best {name}{pick}", "the recommended trial, and how much of it was luck"))
    if len(facts.goals) > 1:
        told.append((f"hpo front {name}", "every trial on the front"))
    if facts.recommended is not None:
        trial = f"{name} --trial {facts.recommended.number}"
        told.append((f"hpo rerun {trial}", "runs it again with its seed, and says whether it came out the same"))
        told.append((f"hpo retrain {trial}", "trains it again with several seeds, on the full budget"))
    told.append((f"hpo export-trials {name} --to csv --out trials.csv", "every trial, for any other program"))
    return [*told, (f"hpo report {name} --out report", "makes this page again")]
