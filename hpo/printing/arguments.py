"""What options that hold more than one value mean."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hpo.errors import UserError
from hpo.preflight import Devices


def policy(text: str | None) -> str | Mapping[str, float] | None:
    """What ``--pick`` means: a name, or weights written ``a=1,b=2``.

    Raises:
        UserError: a weight is no number of 0 or more.
    """
    if text is None or "=" not in text:
        return text
    weights = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            raise UserError(f"--pick: write weights as METRIC=NUMBER,...; got {part!r}.") from None
        if not 0 <= weights[name.strip()] < math.inf:
            raise UserError(f"--pick: a weight is a number of 0 or more; got {part!r}.")
    return weights


def top_share(text: str) -> int | float:
    """What ``--top`` means: ``25%`` is the share 0.25, ``10`` the number 10.

    Raises:
        UserError: it is neither a percentage above 0 and up to 100 nor a whole number of at least 1.
    """
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number) / 100 if percent else int(number)
    except ValueError:
        value = 0
    if rest or not (0 < value <= 1 if percent else value >= 1):
        raise UserError(
            f"--top: write a percentage above 0 and up to 100, such as 25%, or a whole number of trials; got {text!r}."
        )
    return value


def named_values(texts: Sequence[str], option: str) -> dict[str, Any]:
    """What ``--set NAME=VALUE`` means; a value is read as in a study file (YAML 1.2), so 1e-3 is a number.

    Raises:
        UserError: a text is not of that form, or a name stands there twice.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not name or not equals:
            raise UserError(f"{option}: write NAME=VALUE; got {text!r}.")
        if name in values:
            raise UserError(f"{option}: {name} is given twice.")
        try:
            values[name] = YAML(typ="safe", pure=True).load(value)
        except (YAMLError, ValueError, RecursionError):
            raise UserError(f"{option}: the value of {name} is not usable as YAML: {value!r}.") from None
    return values


def export_source(study: str | None, checkpoint: Path | None, import_from: Path | None) -> str | Path:
    """What ``hpo export`` exports: a study by its name, or a checkpoint by its path.

    Raises:
        UserError: both or neither is given, or ``--import-from`` with a study.
    """
    if checkpoint is not None and study is None:
        return checkpoint
    if study is None or checkpoint is not None:
        raise UserError("Give either a STUDY or --checkpoint CKPT; got " + ("neither." if study is None else "both."))
    if import_from is not None:
        raise UserError("--import-from belongs to --checkpoint; a study says itself where its objective lies.")
    return study


def devices(memory: str | None, number: int) -> Devices | None:
    """What ``--device-memory`` and ``--devices`` mean; MB and GB are 2^20 and 2^30 bytes.

    Raises:
        UserError: the memory is no size above 0, or devices are given without it.
    """
    if memory is None:
        if number != 1:
            raise UserError("--devices says how many have the --device-memory; give that too.")
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MG])i?B\s*", memory, re.IGNORECASE)
    if match is None or not float(match[1]):
        raise UserError(f"--device-memory: write a size such as 24GB or 8000MB; got {memory!r}.")
    return Devices(float(match[1]) * (1024 if match[2].upper() == "G" else 1), number)


def whole_numbers(texts: Sequence[str]) -> dict[str, int]:
    """What ``--set NAME=NUMBER`` means.

    Raises:
        UserError: a text is not of that form.
    """
    numbers = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            numbers[name.strip()] = int(value)
        except ValueError:
            raise UserError(f"--set: write NAME=WHOLE NUMBER; got {text!r}.") from None
    return numbers


def run_of(trial: int | None, series: str | None, number: int | None) -> tuple[str, int] | None:
    """The series and number of one run: --trial alone, or --series with --number; None without any.

    Raises:
        UserError: another combination.
    """
    if trial is not None and (series, number) == (None, None):
        return "search", trial
    if trial is not None or (series is None) != (number is None):
        raise UserError("--trial names a trial of the search; give it alone, or --series with --number.")
    return None if series is None or number is None else (series, number)
