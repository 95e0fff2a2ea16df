"""The rules of the house: who may know whom, which library lives where, and a light start."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The higher number may import the lower, never the other way and never its own floor.
# A room is the longest name below that a module begins with; inside a room anything goes.
FLOORS = {
    "hpo.errors": 0,
    "hpo.durable": 0,
    "hpo.masking": 0,
    "hpo.places": 1,
    "search_spaces": 1,
    "hpo.training.settings": 1,
    "hpo.training.conditions": 0,
    "hpo.training.health": 1,
    "hpo.trial": 2,
    "hpo.training": 3,
    "hpo.evaluation": 3,
    "hpo.pareto": 3,
    "hpo.where": 3,
    "hpo.constraints": 3,
    "hpo.failures": 3,
    "hpo.environment": 3,
    "hpo.roles": 3,
    "hpo.spec": 4,
    "objectives": 4,
    "hpo.search": 4,
    "storage": 4,
    "hpo.plan": 5,
    "hpo.adoption": 5,
    "hpo.strategies": 5,
    "hpo.costs": 5,
    "hpo.launches": 5,
    "hpo.study": 6,
    "hpo.aside": 6,
    "hpo.tracking": 7,
    "hpo.interrupt": 7,
    "hpo.mirror": 7,
    "hpo.earlier": 7,
    "hpo.runners": 7,
    "hpo.simulation": 7,
    "hpo.export": 7,
    "hpo.reports": 7,
    "hpo.archive": 8,
    "hpo.prediction": 8,
    "hpo.choice": 8,
    "hpo.trainer_fields": 7,
    "hpo.resolve": 8,
    "hpo.preflight": 8,
    "hpo.oneoff": 8,
    "hpo.starter": 8,
    "hpo.creation": 9,
    "hpo.session": 9,
    "hpo.service": 10,
    "hpo.printing": 11,
    "hpo.terminal": 11,
    "hpo.commands": 12,
    "hpo.notebook": 12,
    "cli": 13,
    "hpo": 13,  # the package itself: the public names
}

LIBRARIES = {
    "torch": ("hpo/training/", "hpo/evaluation/", "hpo/export/", "objectives/"),
    "ray": ("hpo/runners/ray_tune/",),
    "optuna": ("hpo/search/", "storage/database.py", "storage/exchange/journal.py"),
    "cmaes": ("hpo/search/cmaes.py",),
    "optuna_dashboard": ("hpo/service/",),
    "sqlalchemy": ("storage/", "objectives/rf_localization/labels.py"),
    "alembic": ("storage/",),
    "typer": ("cli.py", "hpo/commands/"),
    "pandas": ("storage/exchange/files.py", "hpo/notebook/"),
    "IPython": ("hpo/notebook/progress.py",),
    "onnx": ("hpo/export/",),
    "onnxruntime": ("hpo/export/",),
    "safetensors": ("hpo/export/", "hpo/training/weights.py", "objectives/"),
    "transformers": ("hpo/export/", "objectives/", "hpo/adoption/huggingface.py"),
    "datasets": ("objectives/language_modeling/texts.py",),
    "tokenizers": ("objectives/",),
    "timm": ("objectives/image_classification/model.py",),
    "plotly": ("hpo/reports/",),
    "jinja2": ("hpo/reports/",),
    "markdown_it": ("hpo/reports/notes.py",),
    "bitsandbytes": ("hpo/training/optimizers.py",),
    "pynvml": ("hpo/training/nvml.py",),
    "mlflow": ("hpo/tracking/mlflow.py",),
    "tensorboard": ("hpo/tracking/tensorboard.py",),
    "wandb": ("hpo/tracking/wandb.py",),
}
WITHOUT_TORCH = {
    "hpo/training/settings.py",
    "hpo/training/schedules.py",
    "hpo/training/extras.py",
    "hpo/training/conditions.py",
    "hpo/training/health.py",
    "hpo/training/checks/findings.py",
    "hpo/training/__init__.py",
}


def _sources() -> list[Path]:
    folders = ("hpo", "objectives", "search_spaces", "storage")
    return [ROOT / "cli.py", *(p for folder in folders for p in (ROOT / folder).rglob("*.py"))]


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _imports(path: Path) -> set[str]:
    """Every module that a file imports, at its top, in a function or for type checking."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return found


def _room(module: str) -> str | None:
    rooms = [room for room in FLOORS if module == room or module.startswith(room + ".")]
    return max(rooms, key=len, default=None)


@pytest.mark.parametrize("path", _sources(), ids=_module)
def test_imports_go_down_the_floors(path: Path) -> None:
    own = _room(_module(path))
    assert own is not None and (own != "hpo" or path == ROOT / "hpo/__init__.py"), f"{path} stands on no floor"
    for module in _imports(path):
        room = _room(module)
        if room is None or room == own or module in ("hpo", "hpo.__version__"):
            continue
        assert FLOORS[room] < FLOORS[own], f"{_module(path)} (floor {FLOORS[own]}) imports {module} ({FLOORS[room]})"


@pytest.mark.parametrize("path", _sources(), ids=_module)
def test_each_library_stays_in_its_room(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    for library in {module.partition(".")[0] for module in _imports(path)} & set(LIBRARIES):
        assert name.startswith(LIBRARIES[library]), f"{name} imports {library}"
        assert not (library == "torch" and name in WITHOUT_TORCH)


@pytest.mark.parametrize("path", sorted((ROOT / "objectives").glob("*/__init__.py")), ids=_module)
def test_an_objectives_front_door_loads_no_torch(path: Path) -> None:
    code = f"import sys, {_module(path)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_nothing_below_the_service_knows_an_objective_by_name() -> None:
    names = [p.parent.name for p in (ROOT / "objectives").glob("*/__init__.py")]
    for path in (ROOT / "hpo").rglob("*.py"):
        imported = _imports(path)
        assert not [n for n in names if any(m.startswith(f"objectives.{n}") for m in imported)], path


@pytest.mark.parametrize(
    "statement",
    [
        "import hpo",
        "import hpo; dir(hpo)",
        "import cli",
        "import cli, hpo.service",
        "import cli; cli.app(['--help'])",
        "import cli; cli.app(['objectives'])",
        "import cli; cli.app(['init', 'analytic'])",
        "import cli; cli.app(['check', 'examples/zdt1.yaml'])",
        "import cli; cli.app(['list', '--storage', 'sqlite:///none.db'])",
    ],
)
def test_commands_that_need_no_torch_load_no_heavy_library(statement: str) -> None:
    code = (
        "import sys\ntry:\n"
        f"    {statement}\n"
        "except BaseException:\n    pass\n"
        "print([m for m in ('torch', 'ray', 'optuna', 'pandas') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]", done.stderr
