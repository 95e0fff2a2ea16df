"""Is a bundle still what it was, and is every format in it still the model?

Each format is loaded in a process of its own: what the exporting process has imported,
registered or cached cannot help it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

import hpo
from hpo.errors import UserError
from hpo.export import formats
from hpo.export.bundle import ModelBundle
from hpo.export.manifest import Check

TIMEOUT_S = 600.0
UNASKED = "It is a program, which loading runs with your rights; --run-programs does, if you trust the bundle's origin."


@dataclass(frozen=True)
class VerifyReport:
    """``checks``: released format -> what loading it back showed. ``withheld``: format -> why it never shipped.

    ``unverified``: format -> why it shipped and was not looked at now, which is neither good nor bad.
    """

    bundle: ModelBundle
    checks: dict[str, Check]
    withheld: dict[str, str]
    unverified: dict[str, str] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """Every format that was looked at could be loaded and is within its bound."""
        return all(check.reason is None for check in self.checks.values())

    @property
    def lines(self) -> list[str]:
        """One sentence a format, and whether the model is released, for people."""
        found = []
        for name, check in self.checks.items():
            worst, rounded = check.comparison, check.relative_error
            if check.reason is not None:
                found.append(f"{name}: {check.reason}")
            elif worst is not None and worst.bound_share is not None:
                found.append(f"{name}: equals PyTorch; its worst difference is {worst.bound_share:.2g} of the allowed.")
            elif rounded is not None and rounded.error is not None:
                error, allowed = rounded.error, rounded.allowed
                found.append(f"{name}: near PyTorch; its relative error is {error:.2g}, of {allowed:g} allowed.")
            else:
                found.append(f"{name}: equals PyTorch.")
        found += [f"{name}: not verified here. {reason}" for name, reason in self.unverified.items()]
        found += [f"{name}: not released. {reason}" for name, reason in self.withheld.items()]
        manifest = self.bundle.manifest
        return [*found, manifest.release, *(f"  {gate.line}" for gate in manifest.gates if gate.met is not True)]


def verify_bundle(
    path: Path,
    *,
    atol: float | None = None,
    rtol: float | None = None,
    latency: bool = False,
    import_from: str | None = None,
    run_programs: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> VerifyReport:
    """Hold every file against its checksum, then every released format against PyTorch's stored outputs.

    Works from the files alone. ``atol`` and ``rtol`` are the bundle's own unless given.
    ``import_from`` is a folder to look in for an objective named ``package.module:Class``;
    it is never taken from the bundle and never lies in it, which would let a bundle choose
    what code runs. For the same reason a format that is itself a program (``Format.is_program``) is
    loaded only with ``run_programs``.

    Raises:
        BundleError: a file is missing, changed, not listed or outside the folder, or
            ``import_from`` is that folder or inside it.
        UserError: a tolerance is negative or not a number.
    """
    bundle = ModelBundle.open(path)
    bundle.refuse_inside(import_from)
    atol = bundle.manifest.atol if atol is None else atol
    rtol = bundle.manifest.rtol if rtol is None else rtol
    check_tolerance(atol, rtol)
    checks = {}
    withheld = {}
    unverified = {}
    for name, entry in bundle.manifest.formats.items():
        if not entry.released:
            withheld[name] = entry.reason or "no reason was kept"
        elif entry.unverified is not None:
            unverified[name] = entry.unverified
        elif formats.find(name).is_program and not run_programs:
            unverified[name] = UNASKED
        else:
            checks[name] = check_apart(
                bundle.folder, name, atol, rtol, latency=latency, import_from=import_from, timeout_s=timeout_s
            )
    return VerifyReport(bundle, checks, withheld, unverified)


def check_tolerance(atol: float, rtol: float) -> None:
    """Raises UserError unless both are finite and at least 0."""
    for name, value in (("atol", atol), ("rtol", rtol)):
        if not 0.0 <= value < float("inf"):
            raise UserError(f"A tolerance must be a finite number of at least 0; {name} is {value}.")


def check_apart(
    folder: Path,
    name: str,
    atol: float,
    rtol: float,
    *,
    latency: bool,
    import_from: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Check:
    """Load ``folder/formats/<name>`` in a new process, compare, and measure if asked.

    Never raises for what the format does: crashing, hanging and nonsense are reasons.
    """
    # -P keeps the current folder off sys.path, where a user's storage.py would shadow ours.
    command = [sys.executable, "-P", "-m", "hpo.export.check_format", str(folder), name]
    command += [f"--atol={atol!r}", f"--rtol={rtol!r}"]
    command += ["--latency"] if latency else []
    command += [f"--import-from={import_from}"] if import_from else []
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=timeout_s, env=_environment(), stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        return Check(reason=f"Loading and comparing it must end within {timeout_s:g} s; it did not.")
    if done.returncode == 0:
        try:
            return Check.model_validate_json(done.stdout)
        except ValidationError:
            pass
    tail = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    return Check(reason=f"Its process ended with {done.returncode} and no result. {' '.join(tail)}".strip())


def _environment() -> dict[str, str]:
    """Ours, with this very hpo on the path, one thread, and no library calling home."""
    here = str(Path(hpo.__file__).resolve().parents[1])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
    }
