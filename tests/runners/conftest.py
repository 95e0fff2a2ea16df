"""One local Ray per file of tests, and every runner by its name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hpo import runners


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One Ray for the whole file, which is not hpo's to end: starting one takes seconds."""
    import ray

    import hpo.runners.ray_tune  # noqa: F401  # its settings come before Ray's import

    ray.init("local", num_gpus=0, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(params=runners.names())
def runner(request: pytest.FixtureRequest) -> str:
    return str(request.param)
