"""One local Ray per file of tests, and every runner by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from hpo import runners

T = TypeVar("T")


def patiently(start: Callable[[], T]) -> T:
    """What starts a Ray, made up to three times: Ray gives each of its nodes 30 s, which a busy machine may exceed."""
    import ray

    for _ in range(2):
        try:
            return start()
        except Exception as error:
            if "timed out" not in str(error).lower():
                raise
            ray.shutdown()
    return start()


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One Ray for the whole file, which is not hpo's to end: starting one takes seconds."""
    import ray

    import hpo.runners.ray_tune  # noqa: F401  # its settings come before Ray's import

    settings = {"num_gpus": 0, "include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
    patiently(lambda: ray.init("local", **settings))
    yield
    ray.shutdown()


@pytest.fixture(params=runners.names())
def runner(request: pytest.FixtureRequest) -> str:
    return str(request.param)
