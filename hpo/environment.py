"""What a study ran on: packages, Python, machine, GPU, git. Nothing secret, nothing imported."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import hpo

PACKAGES = (
    "hpo", "optuna", "ray", "torch", "torchvision", "torchaudio", "torchmetrics", "triton", "timm", "lightning",
    "pytorch-lightning", "transformers", "accelerate", "datasets", "tokenizers", "peft", "bitsandbytes", "safetensors",
    "jax", "tensorflow", "keras", "xgboost", "lightgbm", "catboost", "scikit-learn", "scikit-image", "scipy", "numpy",
    "pandas", "polars", "pyarrow", "pillow", "opencv-python", "albumentations", "librosa", "gymnasium", "vtracer",
    "cmaes", "moocore", "sqlalchemy", "alembic", "psycopg", "pymysql", "pydantic", "mlflow", "mlflow-skinny",
    "tensorboard", "wandb", "onnx", "onnxscript", "onnxruntime",
)  # fmt: skip


def describe(code: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The environment of this process, as plain data for the launch's record.

    Args:
        code: folders with code that takes part, by the name that their git commit is kept under;
            by default the working directory as ``git``. hpo's own is ``git_hpo``.
    """
    folders = {**(code or {"git": str(Path.cwd())}), "git_hpo": str(Path(hpo.__file__).parent)}
    return {
        "python": platform.python_version(),
        "os": platform.platform(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "gpus": _gpus(),
        "cuda": _cuda(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        **_commits(folders),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """One line per GPU: its name, memory and driver."""
    if not shutil.which("nvidia-smi"):
        return []
    answer = _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return answer.splitlines() if answer else []


def _cuda() -> str | None:
    """The CUDA version that torch was built for, as its own file says; loading torch would take a second."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^cuda\b[^=]*= *['\"]([^'\"]+)", text, re.MULTILINE)
    return found[1] if found else None


def _commits(folders: Mapping[str, str]) -> dict[str, Any]:
    """By name, the commit that a folder is at and whether it says all of the code; None outside git.

    ``dirty``: files were changed since, or the folder has modules that git does not know. Of several
    folders of one repository the first alone is named.
    """
    found: dict[str, Any] = {}
    seen: set[str] = set()
    for name, folder in folders.items():
        told = _output("git", "-C", folder, "rev-parse", "--show-toplevel", "HEAD")
        top, _, commit = told.partition("\n")
        if not commit:
            found[name] = None
        elif top not in seen:
            seen.add(top)
            found[name] = {"commit": commit, "dirty": _is_dirty(top, folder)}
    return found


def _is_dirty(top: str, folder: str) -> bool:
    changed = _output("git", "-C", top, "status", "--porcelain", "--untracked-files=no")
    return bool(changed or _output("git", "-C", folder, "ls-files", "--others", "--exclude-standard", "--", "*.py"))


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
