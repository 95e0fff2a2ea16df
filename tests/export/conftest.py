"""Small objectives stand beside these tests, as a user's stand beside a study file; and a bundle of one of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hpo.export.bundle import ModelBundle
from hpo.export.release import export_model

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)


@pytest.fixture(scope="session")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """The MLP in every usual format, with its latency; tests copy it before they change anything."""
    import small_objectives as small

    task = small.mlp_task()
    return export_model(
        task,
        small.weights_of(task),
        objective="small_objectives:Mlp",
        params={"widths": [8, 4]},
        out=tmp_path_factory.mktemp("shared") / "mlp",
        import_from=HERE,
        latency=True,
        config_yaml="name: demo\n",
        metrics={"test_loss": 0.5, "seeds": [{"seed": 1, "val_loss": float("nan")}]},
        manifest_facts={"study": "demo", "trial": 7},
    )
