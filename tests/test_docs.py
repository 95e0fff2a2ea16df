"""The tables of the user guide say what the code says: every field, every default, every rule, in both directions."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML

from hpo import tracking
from hpo.export import formats
from hpo.plan import Plan
from hpo.spec import (
    ArtifactsSpec,
    Budget,
    ExportSpec,
    GateSpec,
    Limits,
    RetrainSpec,
    StopSpec,
    StudySpec,
    ValidationSpec,
    WarmStart,
)
from hpo.training.checkpoints import BEST, LAST, PREVIOUS, START
from hpo.training.ending import TEST_PREDICTIONS, VALIDATION_PREDICTIONS
from hpo.training.health import COMMON, Rule
from hpo.training.settings import EarlyStopping, TrainerSettings
from hpo.trial import StopKind
from objectives.base import Objective, TrainingObjective
from objectives.image_classification import ImageClassification
from objectives.quality_regression import QualityRegression
from objectives.rf_localization import RfLocalization
from storage import tables
from tests.pages import DOCS, ROOT, rows, section

STUDY_FILE = (DOCS / "study-file.md").read_text(encoding="utf-8")
TROUBLESHOOTING = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
HEALTH = (DOCS / "health.md").read_text(encoding="utf-8")
COMMANDS = (DOCS / "commands.md").read_text(encoding="utf-8")
DATABASES = (DOCS / "databases.md").read_text(encoding="utf-8")
PRUNING = (DOCS / "pruning.md").read_text(encoding="utf-8")
OBJECTIVES = (DOCS / "objectives.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")

MODELS: dict[str, type[BaseModel]] = {
    "## Fields": StudySpec,
    "## Budget": Budget,
    "## Warm start": WarmStart,
    "## Stop": StopSpec,
    "## Limits": Limits,
    "## Trainer": TrainerSettings,
    "### Early stopping": EarlyStopping,
    "## Validation": ValidationSpec,
    "## Gates": GateSpec,
    "## Retrain": RetrainSpec,
    "## Export": ExportSpec,
    "## Artifacts": ArtifactsSpec,
    **{f"### {name}": tracking.find(name).Options for name in tracking.known()},
}
GROUPS = ("db", "models")  # commands that have commands
# What stands instead of "none" where the objective or another field steps in.
IN_WORDS = {
    "required",
    "none",
    "the objective's",
    "see below",
    "budget.epochs",
}


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
    assert {
        "health",
        "mirror",
        "artifacts",
        "tracking",
        "baselines",
        "validation",
        "gates",
        "retrain",
        "export",
    } <= free
    base = "name: s\nobjective: tests.training.tiny_objective:Tiny\nbudget: {trials: 1, epochs: 2}\n"

    def plan(more: str) -> Plan:
        return resolve.resolve(StudySpec.parse(base + more))

    digest = plan("").digest
    for more in (
        "health: {overfitting: 0.1}", "mirror: /nowhere", "artifacts: {pictures: false}", "tracking: [mlflow]",
        "validation: {folds: 3}", "retrain: {confirm: 0}",
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
    [
        ("## For every objective", COMMON),
        ("## Of quality_regression", {r.name: r for r in QualityRegression.health}),
        ("## Of image_classification", {r.name: r for r in ImageClassification.health}),
        ("## Of rf_localization", {r.name: r for r in RfLocalization.health}),
    ],
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
    for page in (*DOCS.glob("*.md"), *ROOT.glob("*.md"), *(ROOT / "benchmarks").rglob("*.md")):
        for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())):
            if target.startswith("http"):
                continue
            other = page if not target else page.parent / target
            assert other.exists(), f"{page.name}: {target}"
            if anchor and other.suffix == ".md":
                heads = re.findall(r"^#+ (.+)$", other.read_text(), flags=re.MULTILINE)
                slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
                assert anchor in slugs, f"{page.name}: {target}#{anchor}"


def commands() -> dict[str, set[str]]:
    """Every command with its long options, as the program has them."""
    from cli import app

    group = typer.main.get_command(app)
    found = dict(group.commands)  # type: ignore[attr-defined]
    for room in GROUPS:
        found.update({f"{room} {name}": command for name, command in found.pop(room).commands.items()})
    return {
        name: {o for parameter in command.params for o in parameter.opts if o.startswith("--") and o != "--help"}
        for name, command in found.items()
    }


def pruner_options() -> dict[str, dict[str, Any]]:
    """By pruner, its options with their defaults; ``...`` where one is required."""
    from hpo.search.pruners import PRUNERS

    parameters = {name: inspect.signature(rule).parameters.values() for name, rule in PRUNERS.items()}
    return {
        name: {p.name: ... if p.default is p.empty else p.default for p in of if p.kind is p.KEYWORD_ONLY}
        for name, of in parameters.items()
    }


def test_the_guide_has_every_pruner_with_its_options_and_defaults() -> None:
    known, table = pruner_options(), rows(section(STUDY_FILE, "## Pruners"))
    assert set(table) == set(known)
    for name, (options, _) in table.items():
        written = dict(re.findall(r"`(\w+)`(?: \(([^)]*)\))?", options))
        assert set(written) == set(known[name]), name
        for option, default in known[name].items():
            if default is ...:
                assert written[option].startswith("required"), (name, option)
            elif default is not None:
                assert YAML(typ="safe", pure=True).load(written[option]) == default, (name, option)


def test_the_page_on_pruning_explains_every_option_of_the_rules_for_several_goals() -> None:
    several = {"any", "hopeless", "pareto_asha", "pareto_median"}
    lines = [line.strip("| ") for line in section(PRUNING, "## Options").splitlines() if line.startswith("| `")]
    cells = [[cell.replace("`", "") for cell in line.split(" | ")] for line in lines]
    told = {(rule, option): default for option, rules, default, _ in cells for rule in rules.split(", ")}
    known = {(rule, option): default for rule in several for option, default in pruner_options()[rule].items()}
    assert {key: "required" if default is ... else str(default) for key, default in known.items()} == told


def test_the_guide_gives_every_command_with_exactly_its_options() -> None:
    for name, options in commands().items():
        usages = re.findall(rf"`(hpo {name}\b[^`]*)`", section(COMMANDS, f"## {name}"))
        written = {option for usage in usages for option in re.findall(r"--[a-z-]+", usage)}
        assert written == options, name


@pytest.mark.parametrize("page", [README, OBJECTIVES, DATABASES])
def test_every_command_that_a_page_shows_is_one_with_these_options(page: str) -> None:
    known = commands()
    shown = [part for line in re.findall(r"^\$ (.*)$", page, re.MULTILINE) for part in re.split(r"&&|;|\|", line)]
    shown = [re.sub(r"#.*", "", part).split() for part in shown if part.split()[:1] == ["hpo"]]
    assert shown
    for _, command, *words in shown:
        name = f"{command} {words[0]}" if command in GROUPS else command
        assert {word for word in words if word.startswith("--")} <= known[name], name


def test_the_readme_leads_to_every_page_of_the_guide() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", README))
    assert linked == {f"docs/{page.name}" for page in DOCS.glob("*.md")}


def test_the_page_on_exports_has_every_format_and_no_other() -> None:
    table = section((DOCS / "export.md").read_text(encoding="utf-8"), "## The formats")
    assert sorted(rows(table)) == formats.known()


def test_the_guide_names_every_file_of_a_trial() -> None:
    table = section(DATABASES, "## What is kept where")
    for name in (LAST, PREVIOUS, BEST, START, VALIDATION_PREDICTIONS, TEST_PREDICTIONS, "error.txt"):
        assert f"`{name}`" in table, name


def test_the_guide_has_every_table_with_its_columns() -> None:
    described = rows(section(DATABASES, "## Reading a study without hpo").split("### Events")[0])
    ours = {table.name: table for table in tables.metadata.sorted_tables}
    assert set(described) == {*ours, "hpo_alembic_version"}
    for name, table in ours.items():
        missing = {column.name for column in table.columns} - set(re.findall(r"`(\w+)`", described[name][1]))
        assert not missing, f"{name}: {missing}"


def event_kinds() -> set[str]:
    """The kinds of events that the code makes: an argument of each call that makes one."""
    found, places = set(), {"Event": 0, "event": 0, "_event": 0, "Aside": 2}
    for path in (path for room in ("hpo", "objectives", "storage") for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                place = places.get(getattr(node.func, "attr", getattr(node.func, "id", "")))
                if place is not None and isinstance(kind := next(iter(node.args[place:]), None), ast.Constant):
                    found.add(kind.value)
    return found


def test_the_guide_has_every_kind_of_event() -> None:
    kinds = event_kinds()
    assert {"recovery", "health", "preflight", "taken_up", "nvml_failed"} <= kinds
    assert set(rows(section(DATABASES, "### Events"))) == kinds


def test_the_contract_of_an_objective_is_whole() -> None:
    """Every public member of the base classes has its row, and no row is without its member."""
    table = rows_of_names(section(OBJECTIVES, "## The contract").split("A trial gets a")[0])
    members = {name for kind in (Objective, TrainingObjective) for name in vars(kind) if not name.startswith("_")}
    members |= {name for name in Objective.__annotations__ if not name.startswith("_")}
    assert table == members - {"chosen_baselines"}  # a tool for implementing, explained under Baselines
    assert "chosen_baselines" in section(OBJECTIVES, "## Baselines")


def rows_of_names(text: str) -> set[str]:
    first = [line.strip("|").split("|")[0] for line in text.splitlines() if line.startswith("| `")]
    return {name for cell in first for name in re.findall(r"`(\w+)", cell)}


ROOMS = ("hpo", "objectives", "storage", "search_spaces", "tests", "benchmarks", "examples", "docs")
PAGES = sorted([*ROOT.glob("*.md"), *(page for room in ROOMS for page in (ROOT / room).rglob("*.md"))])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_file_that_is_gone(page: Path) -> None:
    named = re.findall(rf"`((?:{'|'.join(ROOMS)})/[\w/.*-]+)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if "NAME" not in name and not any(ROOT.glob(name.rstrip("/")))] == []
