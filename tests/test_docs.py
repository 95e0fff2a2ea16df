"""The tables of the user guide say what the code says: every field, every default, every rule, in both directions."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML

from hpo.plan import Plan
from hpo.spec import Budget, ExportSpec, GateSpec, RetrainSpec, StudySpec, ValidationSpec
from hpo.training.health import COMMON, Rule
from hpo.training.settings import EarlyStopping, TrainerSettings
from hpo.trial import StopKind
from objectives.quality_regression import QualityRegression

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
STUDY_FILE = (DOCS / "study-file.md").read_text(encoding="utf-8")
TROUBLESHOOTING = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
HEALTH = (DOCS / "health.md").read_text(encoding="utf-8")

MODELS: dict[str, type[BaseModel]] = {
    "## Fields": StudySpec,
    "## Budget": Budget,
    "## Trainer": TrainerSettings,
    "### Early stopping": EarlyStopping,
    "## Validation": ValidationSpec,
    "## Gates": GateSpec,
    "## Retrain": RetrainSpec,
    "## Export": ExportSpec,
}
# What stands instead of "none" where the objective or another field steps in.
IN_WORDS = {
    "required",
    "none",
    "the objective's",
    "see below",
    "budget.epochs",
}


def section(page: str, heading: str) -> str:
    """What stands under a heading, up to the next of the same or a higher level."""
    level = len(heading.split()[0])
    begins = page.index(f"\n{heading}\n") + len(heading) + 2
    rest = page[begins:]
    end = re.search(rf"^#{{1,{level}}} ", rest, flags=re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> dict[str, list[str]]:
    """Every table row that begins with a name in backticks: the name, and its further cells."""
    lines = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    found = {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in lines}
    assert len(found) == len(lines), "a name stands there twice"
    return found


def own_rows(heading: str) -> dict[str, list[str]]:
    """The rows of a section without those of its subsections."""
    return rows(re.split(r"^###+ ", section(STUDY_FILE, heading), flags=re.MULTILINE)[0])


def default_of(cells: list[str], heading: str) -> Any:
    text = cells[1 if heading in ("## Fields", "## Budget") else 0].strip("`")
    if text in IN_WORDS:
        return None
    return YAML(typ="safe", pure=True).load(text)


def plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else value


@pytest.mark.parametrize(("heading", "model"), MODELS.items())
def test_every_field_stands_in_its_table_and_nothing_else_does(heading: str, model: type[BaseModel]) -> None:
    assert set(own_rows(heading)) == set(model.model_fields)


@pytest.mark.parametrize(("heading", "model"), MODELS.items())
def test_every_default_is_the_one_in_the_table(heading: str, model: type[BaseModel]) -> None:
    for name, cells in own_rows(heading).items():
        field, written = model.model_fields[name], default_of(cells, heading)
        if written is None:
            assert field.default in (None, PydanticUndefined) or isinstance(field.default, BaseModel), name
        elif isinstance(field.default, BaseModel):
            assert plain(type(field.default).model_validate(written)) == plain(field.default), name
        else:
            assert written == field.default, name


@pytest.mark.parametrize("heading", ["## Trainer", "### Early stopping", "## Gates"])
def test_every_choice_of_a_setting_is_listed(heading: str) -> None:
    for name, cells in own_rows(heading).items():
        annotation = MODELS[heading].model_fields[name].annotation
        literals = [a for part in (annotation, *get_args(annotation)) for a in get_args(part) if isinstance(a, str)]
        if literals:
            assert re.findall(r"`([^`]*)`", cells[1]) == list(dict.fromkeys(literals)), name


def test_the_digest_holds_what_the_guide_says_it_holds() -> None:
    """Each top-level field stands on one side of the table, and the code agrees."""
    from hpo import resolve

    text = section(STUDY_FILE, "## What makes a study the same")
    lines = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")][2:]
    fixed, free = ({word for line in lines for word in re.findall(r"`(\w+)", line[side])} for side in (0, 1))
    assert {"trainer", "goals", "search_space"} <= fixed
    assert {"health", "mirror", "baselines", "validation", "gates", "retrain", "export"} <= free
    base = "name: s\nobjective: tests.training.tiny_objective:Tiny\nbudget: {trials: 1, epochs: 2}\n"

    def plan(more: str) -> Plan:
        return resolve.resolve(StudySpec.parse(base + more))

    digest = plan("").digest
    for more in (
        "health: {overfitting: 0.1}", "mirror: /nowhere", "validation: {folds: 3}", "retrain: {confirm: 0}",
        "gates: [{metric: val_loss, at_most: 1}]", "export: {atol: 1.0}",
    ):  # fmt: skip
        assert plan(more).digest == digest, more
    assert set(plan("").identity()["trainer"]) == set(TrainerSettings.model_fields)
    assert plan("trainer: {keep_every: 7}").digest != digest


def rules_in(heading: str) -> dict[str, list[str]]:
    return rows(section(HEALTH, heading))


def as_row(rule: Rule) -> list[str]:
    """Condition, threshold and remedy, as the guide writes them."""
    threshold = rule.condition.threshold
    condition = rule.text.replace("<monitor>", "the monitored metric")
    return [condition, "none" if threshold is None else f"{threshold:g}", rule.remedy]


@pytest.mark.parametrize(
    ("heading", "rules"),
    [("## For every objective", COMMON), ("## Of quality_regression", {r.name: r for r in QualityRegression.health})],
)
def test_the_guide_has_every_health_rule_with_its_condition_threshold_and_remedy(
    heading: str, rules: dict[str, Rule]
) -> None:
    table = rules_in(heading)
    assert set(table) == set(rules)
    for name, rule in rules.items():
        condition, threshold, *meaning, remedy = table[name]
        assert [condition.replace("`", ""), threshold, remedy] == as_row(rule), name
        assert all(meaning), name


def templates() -> list[re.Pattern[str]]:
    """Every text of the code that says something, its first line with gaps: what a message can look like."""
    found = []
    for path in (*(ROOT / "hpo").rglob("*.py"), *(ROOT / "storage").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        inner = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in ast.walk(node)} - {
            id(node) for node in nodes if isinstance(node, ast.JoinedStr)
        }
        for node in nodes:
            if id(node) in inner or not isinstance(node, (ast.JoinedStr, ast.Constant)):
                continue
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in parts)
            line = text.partition("\n")[0].strip("\0")
            if len(line.replace("\0", "")) >= 20:
                found.append(re.compile(re.escape(line).replace("\0", ".+?").replace(re.escape("\0"), ".+?")))
    return found


def test_every_message_that_the_troubleshooting_page_quotes_is_one_that_the_code_has() -> None:
    known = templates()
    quoted = [
        text for block in re.findall(r"```text\n(.*?)```", TROUBLESHOOTING, re.DOTALL) for text in block.splitlines()
    ]
    assert len(quoted) > 15
    for message in quoted:
        assert any(template.search(message) for template in known), f"nothing in the code says: {message}"


def test_the_troubleshooting_page_explains_every_way_in_which_a_trial_ends() -> None:
    assert set(rows(section(TROUBLESHOOTING, "## How a trial ended"))) == {kind.value for kind in StopKind}


def test_every_link_of_the_guide_leads_somewhere() -> None:
    for page in DOCS.glob("*.md"):
        for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())):
            if target.startswith("http"):
                continue
            other = page if not target else page.parent / target
            assert other.exists(), f"{page.name}: {target}"
            if anchor and other.suffix == ".md":
                heads = re.findall(r"^#+ (.+)$", other.read_text(), flags=re.MULTILINE)
                slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
                assert anchor in slugs, f"{page.name}: {target}#{anchor}"
