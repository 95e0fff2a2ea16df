"""The Ray that trials run on: a local one of our own, or a cluster that is there."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hpo import places
from hpo.errors import RunnerFailed, UserError

_WORKER_SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # data paths in a study file are relative to where hpo was started
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}

_ours = False  # whether this module started the Ray that runs, or connected to it


def connect(address: str | None, gpus: float) -> None:
    """Be connected to the cluster at ``address``, or to a local Ray that is started for this process.

    A process that is connected already stays so.

    Raises:
        UserError: no cluster answers at ``address``.
        RunnerFailed: the local Ray does not start.
    """
    global _ours
    if ray.is_initialized():
        return
    local: dict[str, Any] = {"num_gpus": None if gpus else 0, "include_dashboard": False}
    try:
        with quiet():
            _init(address or "local", **({} if address else local))
    except Exception as error:
        if address:
            raise UserError(f"--ray-address {address}: no Ray cluster could be reached there ({error}).") from error
        raise RunnerFailed(f"Ray did not start: {error}. Try --runner inline.") from error
    _ours = True


def _init(address: str, **settings: Any) -> None:
    """Start Ray, or connect to it; again where a busy machine did not start it within Ray's own 30 s."""
    settings |= {"logging_level": logging.ERROR, "log_to_driver": False, "runtime_env": {"env_vars": _WORKER_SETTINGS}}
    for tries_left in (2, 1, 0):
        try:
            ray.init(address, **settings)
            return
        except Exception as error:
            if not tries_left or "timed out during startup" not in str(error):
                raise
            ray.shutdown()


def disconnect() -> None:
    """End the local Ray that ``connect`` started, or leave the cluster; a Ray of somebody else stays."""
    global _ours
    if _ours:
        ray.shutdown()
        _ours = False


def room(cpus: float, gpus: float) -> int:
    """How many trials of ``cpus`` and ``gpus`` fit into what Ray's nodes have, each on one node."""
    return sum(_fit(node, cpus, gpus) for node in _resources())


def check_room(cpus: float, gpus: float) -> None:
    """Refuse a study of which not even one trial fits.

    Raises:
        RunnerFailed: no node has what one trial needs.
    """
    if room(cpus, gpus):
        return
    nodes = [f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in _resources()]
    raise RunnerFailed(
        f"One trial needs {cpus:g} CPUs and {gpus:g} GPUs on one node; Ray has {'; '.join(nodes)}. "
        "Lower 'resources' in the study file."
    )


def check_shared(checkpoints: Sequence[str]) -> None:
    """Refuse a cluster some of whose nodes see none of the places where trials keep their checkpoints.

    One node has nobody to share with. A trial whose node dies goes on elsewhere from what it
    finds at one of these places.

    Raises:
        UserError: no place is seen by all nodes; the message says who does not see what.
        RunnerFailed: a node cannot run a task of ours.
    """
    blind: list[str] = []
    for place in () if is_single() else checkpoints:
        unseen = _blind_nodes(place)
        if not unseen:
            return
        blind.append(f"{place} is not the same place for {', '.join(unseen)}")
    if blind:
        raise UserError(
            f"{'; '.join(blind)}. A trial whose node dies would lose its checkpoints. Put the study on a file system "
            "that all nodes share (--runs, for a new study), or give the study file a mirror that they all see."
        )


def _blind_nodes(place: str) -> list[str]:
    """The nodes that do not find at a place what this process writes there."""
    there, token = places.parse(place), f"seen-{secrets.token_hex(8)}"
    there.make(above=None)
    there.fill(token, Path.touch)
    try:
        nodes = _nodes()
        on = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
        seen = ray.get([_look.options(scheduling_strategy=node).remote(place, token) for node in on])
        return sorted(node["NodeManagerHostname"] for node, sees in zip(nodes, seen, strict=True) if not sees)
    except ray.exceptions.RayError as error:
        raise RunnerFailed(f"A node of the cluster cannot run hpo: {error}") from error
    finally:
        there.remove(token)


@ray.remote(num_cpus=0)
def _look(place: str, token: str) -> bool:
    try:
        return token in places.parse(place).names()
    except OSError:
        return False


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def is_single() -> bool:
    """Whether Ray has this one machine alone."""
    return len(_nodes()) == 1


def _resources() -> list[dict[str, float]]:
    return [node["Resources"] for node in _nodes()]


def _fit(node: dict[str, float], cpus: float, gpus: float) -> int:
    fit = math.floor(node.get("CPU", 0) / cpus + 1e-9)
    if gpus >= 1:
        return min(fit, math.floor(node.get("GPU", 0) / gpus + 1e-9))
    if gpus:  # no trial has a part of one GPU and a part of another
        return min(fit, math.floor(node.get("GPU", 0)) * math.floor(1 / gpus + 1e-9))
    return fit


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Ray's own words off the terminal; ours is the live table."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray._private", "ray.air")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
