"""Parameters and data fields as arguments of somebody's constructors, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

Maker = Callable[..., Any]

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def takes(maker: Maker, name: str) -> bool:
    """Whether ``maker(name=...)`` is a legal call."""
    parameters = inspect.signature(maker).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return True
    return name in parameters and parameters[name].kind in _NAMED


def required(maker: Maker) -> frozenset[str]:
    """The arguments without which ``maker`` cannot be called."""
    parameters = inspect.signature(maker).parameters.values()
    return frozenset(p.name for p in parameters if p.default is p.empty and p.kind in _NAMED)


def listed(*makers: Maker) -> list[str]:
    """The names of all arguments, for a message."""
    return [
        name
        for maker in makers
        for name, parameter in inspect.signature(maker).parameters.items()
        if parameter.kind in _NAMED
    ]


def for_maker(maker: Maker, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``values`` that ``maker`` takes."""
    return {name: value for name, value in values.items() if takes(maker, name)}


def untaken(makers: Collection[Maker], names: Collection[str]) -> list[str]:
    """Those names that no maker takes."""
    return [name for name in names if not any(takes(maker, name) for maker in makers)]
