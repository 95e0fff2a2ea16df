"""What commands print about the launches of a study, and about what its work cost."""

from __future__ import annotations

from typing import Any

from hpo import costs, launches
from hpo.costs import Cost
from hpo.printing.tables import print_json, show
from hpo.reports.wording import count, duration
from storage.records import LaunchRecord, Snapshot


def show_launches(snapshot: Snapshot, as_json: bool) -> None:
    """Each launch: when, where, with what, how it ended, and what it changed against the one before."""
    changed = launches.changes(snapshot.launches)
    if as_json:
        rows = [
            {
                "began": launch.started_at,
                "ended": launch.ended_at,
                "how": launch.ended_how,
                "host": launch.host,
                "pid": launch.pid,
                "runner": launch.runner,
                "workers": launch.workers,
                "changed": changes,
                "settings": launch.settings,
                "environment": launch.environment,
            }
            for launch, changes in zip(snapshot.launches, changed, strict=True)
        ]
        print_json({"study": snapshot.study.name, "cost": cost_fields(snapshot), "launches": rows})
        return
    print(f"{snapshot.study.name}: {count(len(snapshot.launches), 'launch', 'launches')}, {study_cost(snapshot)}")
    show([_row(number, launch) for number, launch in enumerate(snapshot.launches, 1)])
    for number, changes in enumerate(changed, 1):
        if changes:
            print(f"\nLaunch {number} changed")
            print("\n".join(f"  {change}" for change in changes))


def study_cost(snapshot: Snapshot) -> str:
    """All work on a study in words, with the share of what came after the search."""
    by_series = costs.of_study(snapshot)
    each = ", ".join(f"{duration(cost.seconds)} {series}" for series, cost in by_series.items())
    return cost_words(costs.total(by_series.values())) + (f" ({each})" if len(by_series) > 1 else "")


def cost_words(cost: Cost) -> str:
    """``12 s of work, 24 s of GPU``."""
    held = [f"{duration(seconds)} of {name}" for seconds, name in ((cost.gpu_s, "GPU"), (cost.cpu_s, "CPU")) if seconds]
    return ", ".join([f"{duration(cost.seconds)} of work", *held])


def cost_fields(snapshot: Snapshot) -> dict[str, Any]:
    """By series, for a program."""
    return {series: vars(cost) for series, cost in costs.of_study(snapshot).items()}


def _row(number: int, launch: LaunchRecord) -> dict[str, Any]:
    commit = launch.environment.get("git") or {}
    return {
        "launch": number,
        "began": launch.started_at[:19],
        "ended": (launch.ended_at or "")[:19] or None,
        "how": launch.ended_how,
        "host": launch.host,
        "runner": launch.runner,
        "workers": launch.workers,
        "commit": f"{commit['commit'][:8]}{' + changes' if commit.get('dirty') else ''}" if commit else None,
    }
