"""One local Ray per file of tests, and every runner by its name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hpo import runners


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    """One Ray for the whole file, which is not hpo's to end: starting one takes seconds."""
    import hpo.runners.ray_tune as room

    room._start(0)
    room._ours = False
    yield
    room.ray.shutdown()


@pytest.fixture(params=runners.names())
def runner(request: pytest.FixtureRequest) -> str:
    return str(request.param)
