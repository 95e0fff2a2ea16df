"""Checking the options of a sampler or pruner against the function that takes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from hpo.errors import StudyFileError, UnknownName

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=False)]


def checked(
    kind: str, name: str, table: Mapping[str, Callable[..., Any]], options: Mapping[str, Any]
) -> dict[str, Any]:
    """``options`` as the function ``table[name]`` wants them (its keyword-only arguments).

    Raises:
        UnknownName: no such entry, or an option it does not take.
        StudyFileError: an option of the wrong type or out of range, or a missing one.
    """
    if name not in table:
        raise UnknownName(kind, name, table)
    function = table[name]
    allowed = {p.name: p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    values: dict[str, Any] = {}
    for option, value in options.items():
        if option not in allowed:
            raise UnknownName(f"option of {kind} {name}", option, allowed)
        try:
            values[option] = TypeAdapter(allowed[option].annotation, config=ConfigDict(strict=True)).validate_python(
                value
            )
        except ValidationError as error:
            rule = error.errors()[0]["msg"].removeprefix("Input ")
            raise StudyFileError(f"{kind} {name}: {option}: {rule}; got {value!r}.") from None
    for option, parameter in allowed.items():
        if parameter.default is parameter.empty and option not in values:
            raise StudyFileError(f"{kind} {name} needs the option {option!r}.")
    return values
