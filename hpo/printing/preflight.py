"""What a check of a study file prints: what the pre-flight found, and whether something is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpo.plan import Plan
from hpo.printing.tables import Row, print_json, show
from hpo.resolve import search_settings
from hpo.search.view import remarks
from hpo.strategies.budget import SuggestedBudget
from hpo.training.checks.findings import Preflight


def preflight_rows(found: Preflight) -> list[Row]:
    return [{"check": f.check, "result": str(f.result), "what": f.message} for f in found.findings]


def show_checked(
    path: Path, plan: Plan, found: Preflight | None, as_json: bool, budget: SuggestedBudget | None = None
) -> None:
    """A study file that is right in itself, and what the pre-flight found, if there was one."""
    goals, told = [str(goal) for goal in plan.goals], remarks(search_settings(plan))
    if as_json:
        facts = {"study": plan.name, "goals": goals, "parameters": len(plan.space), "remarks": told}
        facts["suggested_budget"] = budget.to_dict() if budget else None
        facts["data"] = _data(plan)
        print_json({**facts, **(found.to_dict() if found else {"params": None, "checks": []})})
        return
    if found:
        show(preflight_rows(found))
        print()
    if budget:
        print(budget)
    print(f"{path}: study {plan.name!r}, goals {', '.join(goals)}, {len(plan.space)} parameters. {_verdict(found)}")
    for remark in (*_data(plan)["notes"], *told):
        print(remark)


def _data(plan: Plan) -> dict[str, Any]:
    facts = plan.data_facts
    if facts is None:
        return {"counts": {}, "notes": [], "left_out": {}}
    return {"counts": dict(facts.counts), "notes": list(facts.notes), "left_out": dict(facts.left_out)}


def _verdict(found: Preflight | None) -> str:
    parts = [
        f"{len(findings)} {what}{'' if len(findings) == 1 else 's'}"
        for what, findings in (("failed check", found.failed), ("warning", found.warnings))
        if findings
    ] if found else []  # fmt: skip
    return f"{', '.join(parts)}." if parts else "Nothing is wrong with it."
