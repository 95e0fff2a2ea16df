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

# Those whose version can change what a training comes to.
NUMERIC = (
    "hpo", "torch", "torchvision", "torchaudio", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow", "pillow",
    "transformers", "tokenizers", "datasets", "timm", "bitsandbytes",
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


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What may change the numbers of a training, where two environments (``describe``) are known to differ."""
    was, is_now = _that_count(then), _that_count(now)
    both = [name for name in was if name in is_now]
    return [f"{name}: was {was[name]}, is {is_now[name]}" for name in both if was[name] != is_now[name]]


def _that_count(environment: Mapping[str, Any]) -> dict[str, str]:
    packages = environment.get("packages", {})
    told = {
        "Python": environment.get("python"),
        **{name: packages.get(name) for name in NUMERIC},
        "CPU": environment.get("cpu"),
        "GPUs": ", ".join(environment.get("gpus") or ["none"]),
        "CUDA": environment.get("cuda"),
        "hpo's code": commit_words(environment.get("git_hpo")),
        "the study's code": commit_words(environment.get("git_objective") or environment.get("git")),
    }
    return {name: value for name, value in told.items() if value is not None}


def commit_words(found: Mapping[str, Any] | None) -> str | None:
    """``0a1b2c3d4e5f``, ``0a1b2c3d4e5f with changes``; None outside git."""
    return None if not found else found["commit"][:12] + (" with changes" if found["dirty"] else "")


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
