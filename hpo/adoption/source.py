"""What the source of a training function says of itself: parameters, their defaults, metrics, epochs.

Reads the text alone: nothing is run. What it cannot see, such as names made at run time, it leaves out.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

UNKNOWN = object()  # the default of a parameter that is read without one


@dataclass(frozen=True)
class Reading:
    """``params``: each parameter that is read, with its default or ``UNKNOWN``.

    ``reported`` and ``returned`` are names of metrics in the order of the text; ``epochs`` is how
    often its loop runs, where that is a plain number.
    """

    params: Mapping[str, Any]
    reported: tuple[str, ...]
    returned: tuple[str, ...]
    epochs: int | None


def read(function: Callable[..., Any]) -> Reading:
    """Read the file in which ``function`` is defined.

    Raises:
        OSError: there is no such file.
    """
    module = ast.parse(inspect.getsource(inspect.getmodule(function) or function))
    body = next(n for n in _nodes(module) if isinstance(n, ast.FunctionDef) and n.name == function.__name__)
    params, report = (argument.arg for argument in [*body.args.posonlyargs, *body.args.args][:2])
    defaults = {**_constants(module), **_command_line(module), **_called_with(module, body)}
    names = {name: defaults.get(name, default) for name, default in _read_from(module, params).items()}
    return Reading(
        params=names or _called_with(module, body),
        reported=tuple(dict.fromkeys(_named_in_calls(body, report))),
        returned=tuple(dict.fromkeys(_returned(body))),
        epochs=_epochs(body, {**defaults, **_scalars(module)}),
    )


def _read_from(tree: ast.AST, params: str) -> dict[str, Any]:
    """``params["lr"]`` and ``params.get("lr", 0.1)``, wherever the module calls it so."""
    found: dict[str, Any] = {}
    for node in _nodes(tree):
        if isinstance(node, ast.Subscript) and _is_name(node.value, params) and isinstance(node.ctx, ast.Load):
            key, default = _literal(node.slice), UNKNOWN
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_name(node.func.value, params):
            if node.func.attr != "get" or not node.args:
                continue
            key, default = _literal(node.args[0]), _literal(node.args[1]) if len(node.args) > 1 else UNKNOWN
        else:
            continue
        if isinstance(key, str) and found.get(key, UNKNOWN) is UNKNOWN:
            found[key] = default
    return found


def _constants(module: ast.Module) -> dict[str, Any]:
    """The entries of every dict that the module writes out at its top."""
    found: dict[str, Any] = {}
    for node in module.body:
        if isinstance(node, ast.Assign):
            found.update(_entries(node.value))
    return found


def _scalars(module: ast.Module) -> dict[str, Any]:
    """The module's own constants: ``EPOCHS = 20``."""
    return {
        target.id: _literal(node.value)
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _command_line(module: ast.Module) -> dict[str, Any]:
    """The defaults of ``add_argument("--lr", default=0.1)``."""
    found = {}
    for node in _nodes(module):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr == "add_argument" and node.args and isinstance(flag := _literal(node.args[0]), str):
            for keyword in node.keywords:
                if keyword.arg == "default":
                    found[flag.lstrip("-").replace("-", "_")] = _literal(keyword.value)
    return found


def _called_with(module: ast.Module, function: ast.FunctionDef) -> dict[str, Any]:
    """The dict that the module itself gives the function: ``train({"lr": 0.1}, print)``, or as a default."""
    found: dict[str, Any] = {}
    for default in function.args.defaults:
        found.update(_entries(default))
    for node in _nodes(module):
        if isinstance(node, ast.Call) and _is_name(node.func, function.name) and node.args:
            found.update(_entries(node.args[0]))
    return found


def _named_in_calls(function: ast.FunctionDef, report: str) -> Iterator[str]:
    for node in _nodes(function):
        if isinstance(node, ast.Call) and _is_name(node.func, report):
            for argument in node.args:
                yield from _keys(argument)
            yield from (keyword.arg for keyword in node.keywords if keyword.arg)


def _returned(function: ast.FunctionDef) -> Iterator[str]:
    for node in _nodes(function):
        if isinstance(node, ast.Return) and node.value is not None:
            yield from _keys(node.value)


def _epochs(function: ast.FunctionDef, known: Mapping[str, Any]) -> int | None:
    """How often the first ``for ... in range(...)`` of the function runs."""
    for node in _nodes(function):
        if isinstance(node, ast.For) and isinstance(node.iter, ast.Call) and _is_name(node.iter.func, "range"):
            ends = [_value(argument, known) for argument in node.iter.args[:2]]
            if all(isinstance(end, int) for end in ends):
                return max(1, ends[0] if len(ends) == 1 else ends[1] - ends[0])
            return None
    return None


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """A number written out, a constant of the module, or a parameter with a default; ``20 + 1`` too."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _value(node.left, known), _value(node.right, known)
        return left + right if isinstance(left, int) and isinstance(right, int) else UNKNOWN
    if isinstance(node, ast.Name):
        return known.get(node.id, UNKNOWN)
    if isinstance(node, ast.Subscript):
        key = _literal(node.slice)
        return known.get(key, UNKNOWN) if isinstance(key, str) else UNKNOWN
    return _literal(node)


def _entries(node: ast.expr) -> dict[str, Any]:
    """The entries of a dict that is written out, ``{...}`` or ``dict(...)``."""
    if isinstance(node, ast.Dict):
        pairs = [(_literal(key), _literal(value)) for key, value in zip(node.keys, node.values, strict=True) if key]
        return {key: value for key, value in pairs if isinstance(key, str)}
    if isinstance(node, ast.Call) and _is_name(node.func, "dict"):
        return {keyword.arg: _literal(keyword.value) for keyword in node.keywords if keyword.arg}
    return {}


def _keys(node: ast.expr) -> list[str]:
    return list(_entries(node))


def _nodes(tree: ast.AST) -> list[ast.expr | ast.stmt]:
    """Everything in a tree, in the order of the text."""
    placed: list[ast.expr | ast.stmt] = [node for node in ast.walk(tree) if isinstance(node, (ast.expr, ast.stmt))]
    return sorted(placed, key=lambda node: (node.lineno, node.col_offset))


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return UNKNOWN
