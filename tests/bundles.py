"""Bundles made by hand, in milliseconds: whole and with evidence, but of a model that comes in no format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hpo.export.bundle import CONFIG, EXAMPLE, MANIFEST, METRICS, README, ModelBundle
from hpo.export.evidence import FILE, Evidence
from hpo.export.manifest import GateFacts, MainGoal, Manifest
from hpo.trial import Direction

SAMPLES = 40
STUDY = "name: demo\nobjective: quality_regression\nbudget: {trials: 1, epochs: 1}\n"
UNMET = GateFacts(name="r2 ≥ 0.9", rule="r2 ≥ 0.9", over="test", metric="r2", value=0.5, met=False)


def make(folder: Path, rmse: float = 0.1, *, extra: int = 0, study: str = STUDY, **facts: Any) -> ModelBundle:
    """A bundle at ``folder`` whose errors on one test set are all ``rmse``, half of them below the target.

    Args:
        extra: bytes of a further file, ``assets/deep/extra.bin``.
        study: the study file.
        facts: in place of the manifest's own.
    """
    targets = np.linspace(0.0, 1.0, SAMPLES)[:, None]
    outputs = targets + rmse * np.where(np.arange(SAMPLES) % 2, 1.0, -1.0)[:, None]
    known: dict[str, Any] = {
        "created_at": "2026-01-01T00:00:00+00:00", "objective": "quality_regression", "params": {"lr": 0.1},
        "facts": {}, "inputs": (), "outputs": (), "atol": 1e-4, "rtol": 1e-3, "formats": {}, "environment": {},
        "origin": {"study": "demo", "digest": "d" * 64, "trial": 7, "seed": 3, "data_fingerprint": "f" * 64},
        "goal": MainGoal(metric="test_rmse", direction=Direction.MINIMIZE),
    }  # fmt: skip
    manifest = Manifest(**{**known, **facts})
    metrics = {"shipped": {"test_rmse": rmse}, "intervals": {"test_rmse": {"low": rmse / 2, "high": 2 * rmse}}}

    def fill(staged: Path) -> None:
        (staged / MANIFEST).write_text(manifest.model_dump_json(), "utf-8")
        (staged / METRICS).write_text(json.dumps(metrics), "utf-8")
        (staged / CONFIG).write_text(study, "utf-8")
        (staged / README).write_text("# A model\n", "utf-8")
        np.savez(staged / EXAMPLE, x=np.zeros(1))
        ids = np.array([f"s{i}" for i in range(SAMPLES)])
        (staged / FILE).write_bytes(Evidence("value", outputs, targets, ids=ids).packed())
        if extra:
            (staged / "assets" / "deep").mkdir(parents=True)
            (staged / "assets" / "deep" / "extra.bin").write_bytes(bytes(extra))

    return ModelBundle.write(folder, fill)
