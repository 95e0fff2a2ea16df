"""What commands print on the way to a released model: validated, retrained, exported, verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpo.evaluation.groups import split_by_group
from hpo.printing.tables import Row, first_line, interval_text, print_json, show
from hpo.trial import TrialState

if TYPE_CHECKING:
    from hpo.evaluation.folds import Fold, OverFolds
    from hpo.evaluation.gains import Gain
    from hpo.export.bundle import ModelBundle
    from hpo.export.manifest import FormatEntry, GateFacts, Latency, Shift
    from hpo.export.verify import VerifyReport
    from hpo.service import Retrained, Validated


def show_validated(validated: Validated, as_json: bool) -> bool:
    """The folds, and each metric's mean and spread over them; whether every fold is complete."""
    summary = validated.summary
    if as_json:
        print_json({"study": validated.name, "params": validated.params, "summary": summary})
        return summary.is_complete
    of = "The parameters given" if summary.subject is None else f"Trial {summary.subject} of {validated.name}"
    print(f"{of}, cross-validated over {summary.folds} folds of {summary.epochs} epochs at most:")
    watched = list(dict.fromkeys(goal.metric for goal in (validated.monitor, *validated.goals)))
    show([_fold_row(fold, watched) for fold in summary.runs])
    overall, grouped = split_by_group([name for name in summary.metrics if name.startswith("val_")])
    told = [name for name in summary.metrics if name in {*overall, *watched}]
    if told:
        print("At each fold's best epoch:")
        show([_over_folds_row(summary.metrics[name]) for name in told])
    if grouped:
        print("By group, means over the folds:")
        show(_by_group({name: over.mean for name, over in summary.metrics.items()}, overall, grouped))
    for fold in summary.runs:
        if fold.state is not TrialState.COMPLETE:
            print(f"Fold {fold.index} did not complete: {first_line(fold.reason or 'no reason was kept')}")
    return summary.is_complete


def _fold_row(fold: Fold, metrics: Sequence[str]) -> Row:
    row: Row = {"fold": fold.index, "state": str(fold.state)}
    for name in metrics:
        row |= {f"{name} best": fold.best.get(name), f"{name} final": fold.final.get(name)}
    return row | {"best epoch": fold.best_epoch, "final epoch": fold.final_epoch}


def _over_folds_row(over: OverFolds) -> Row:
    least, most, n = min(over.values), max(over.values), len(over.values)
    return {"metric": over.metric, "mean": over.mean, "std": over.std, "min": least, "max": most, "folds": n}


def show_retrained(retrained: Retrained, as_json: bool) -> None:
    """The promise and what the seeds made of it, on validation and on the test set; the gates."""
    from hpo.export.manifest import GateFacts

    summary = retrained.summary
    gates = [GateFacts.of(verdict) for verdict in retrained.verdicts]
    if as_json:
        print_json(
            {
                "study": retrained.name,
                "summary": summary,
                "baselines": retrained.baselines,
                "intervals": retrained.intervals,
                "gains": {part: _gains(found) for part, found in retrained.gains.items()},
                "gates": [gate.model_dump() for gate in gates],
            }
        )
        return
    print(f"Trial {summary.trial} of {retrained.name}, retrained with {len(summary.seeds)} seeds:")
    for line in summary.lines:
        print(f"  {line}")
    if retrained.has_model:
        print(f"  The weights of seed {retrained.shipped.seed} ship: best on the validation data.")
    overall, grouped = split_by_group([name for name in summary.spreads if name.startswith("test_")])
    if overall:
        print("On the test set, which the search never read:")
        show(_against_baselines(retrained, overall))
    if grouped:
        print("By group:")
        show(_by_group({name: spread.mean for name, spread in summary.spreads.items()}, overall, grouped))
    for part, found in retrained.gains.items():
        if found:
            print(f"Beside simpler methods, on the {part} set:")
            show(_gain_rows(found))
    if gates:
        print("Gates before release:")
        show(gate_rows(gates))
    if retrained.has_model:
        print(f"Next: hpo export {retrained.name}")


def _against_baselines(retrained: Retrained, names: Sequence[str]) -> list[Row]:
    """One row per test metric: the shipped seed's, mean and spread over the seeds, and each baseline's."""
    rows = []
    for name in names:
        spread = retrained.summary.spreads[name]
        row: Row = {"metric": name}
        if retrained.intervals:
            row["ships"] = retrained.shipped.metrics.get(name)
            sure = retrained.intervals.get(name)
            row["95 % interval"] = None if sure is None else interval_text(sure.low, sure.high)
        row |= {"mean": spread.mean, "std": spread.std}
        row.update({baseline: metrics.get(name) for baseline, metrics in retrained.baselines.items()})
        rows.append(row)
    return rows


def _gain_rows(found: Mapping[str, Sequence[Gain]]) -> list[Row]:
    """One row per metric, one column per baseline: how much better or worse the model is."""
    baselines = list(dict.fromkeys(gain.baseline for own in found.values() for gain in own))
    return [
        {"metric": metric, "model": own[0].value, **dict.fromkeys(baselines), **{g.baseline: g.words for g in own}}
        for metric, own in found.items()
    ]


def _gains(found: Mapping[str, Sequence[Gain]]) -> dict[str, Any]:
    return {
        metric: {gain.baseline: {"value": gain.reference, "gain": gain.gain, "ratio": gain.ratio} for gain in own}
        for metric, own in found.items()
    }


def gate_rows(gates: Sequence[GateFacts]) -> list[Row]:
    return [{"gate": gate.title, "value": gate.value, "verdict": gate.word, "": gate.why or " "} for gate in gates]


def _by_group(means: Mapping[str, float], overall: Sequence[str], grouped: Sequence[str]) -> list[Row]:
    """One row per group, one column per metric that groups have."""
    rows: dict[str, Row] = {}
    for name in grouped:
        metric = max((other for other in overall if name.startswith(f"{other}_")), key=len)
        group = name.removeprefix(f"{metric}_")
        rows.setdefault(group, {"group": group})[metric] = means[name]
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    return [{column: row.get(column) for column in columns} for row in rows.values()]


def show_bundle(bundle: ModelBundle, as_json: bool) -> None:
    """What was made: each format, how near to PyTorch, how fast, how large; the gates, and whether it is released."""
    if as_json:
        print_json({"path": str(bundle.folder), "digest": bundle.digest, **bundle.manifest.model_dump(mode="json")})
        return
    formats = bundle.manifest.formats
    show([row for name, entry in formats.items() for row in _format_rows(name, entry)])
    for name, entry in formats.items():
        if not entry.released:
            print(f"{name} is not released. {first_line(entry.reason or 'No reason was kept.')}")
        elif entry.unverified is not None:
            print(f"{name} is not verified. {entry.unverified}")
    for name, entry in formats.items():
        if entry.metrics:
            print(f"What rounding to {name} does on the validation set{_and_test(entry.metrics)}:")
            show(_shift_rows(entry.metrics))
    if bundle.manifest.gates:
        print("Gates before release:")
        show(gate_rows(bundle.manifest.gates))
    print(bundle.manifest.release)
    module = bundle.manifest.objective.partition(":")[0] if ":" in bundle.manifest.objective else None
    option = f" --import-from FOLDER (the one with {module})" if module else ""
    print(f"Bundle: {bundle.folder}\nNext: hpo verify {bundle.folder}{option}")


def _format_rows(name: str, entry: FormatEntry) -> list[Row]:
    """One row per batch size that was timed, or one where none was."""
    row: Row = {"format": name, "released": "yes" if entry.released else "NO", "MB": short(entry.size_mb)}
    row |= {"memory MB": short(entry.memory_mb), "of allowed": short(entry.bound_share)}
    return [{**row, **_time(latency)} for latency in entry.latency or (None,)]


def _time(latency: Latency | None) -> Row:
    if latency is None:
        return dict.fromkeys(("batch", "p50 ms", "p95 ms", "× eager"))
    p50, p95, speedup = map(short, (latency.p50_ms, latency.p95_ms, latency.speedup))
    return {"batch": latency.batch, "p50 ms": p50, "p95 ms": p95, "× eager": speedup}


def _shift_rows(metrics: Mapping[str, Shift]) -> list[Row]:
    overall, _ = split_by_group(list(metrics))
    return [
        {"metric": name, "PyTorch": metrics[name].pytorch, "rounded": metrics[name].rounded}
        for name in metrics
        if name in {"val_loss", "test_loss", *overall}
    ]


def _and_test(metrics: Mapping[str, Shift]) -> str:
    return " and the test set" if any(name.startswith("test_") for name in metrics) else ""


def short(value: float | None) -> float | None:
    """Three digits: more of a time or a size is noise."""
    return None if value is None else float(f"{value:.3g}")


def show_verified(report: VerifyReport, as_json: bool) -> bool:
    """What the check found; whether all is good."""
    if as_json:
        facts = {"good": report.is_good, "released": report.bundle.manifest.released, "unverified": report.unverified}
        print_json({**facts, "lines": report.lines})
    else:
        print("\n".join(report.lines))
    return report.is_good
