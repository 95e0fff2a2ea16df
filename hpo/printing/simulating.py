"""What the commands that simulate print, and the pruners that are typed for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hpo.errors import UserError
from hpo.printing.arguments import named_values
from hpo.printing.tables import Row, params_text, print_json, show
from hpo.spec import Named

if TYPE_CHECKING:
    from hpo.service import Comparison, Preview
    from hpo.service.simulating import Spread
    from hpo.simulation.savings import Savings


def typed_pruners(texts: Sequence[str], options: Sequence[str]) -> list[Named]:
    """What ``--pruner`` means: a name, or a pruner as a study file has it; ``--set`` are options of the only one.

    Raises:
        UserError: a text is neither, or there are options and several pruners.
    """
    pruners = [_typed_pruner(text) for text in texts]
    values = named_values(options, "--set")
    if not values:
        return pruners
    if len(pruners) != 1:
        raise UserError(
            "--set belongs to one --pruner; of several, write each as in a study file: "
            "--pruner '{name: pareto_median, keep: 0.6}'."
        )
    return [Named.model_validate({**pruners[0].model_dump(), **values})]


def show_comparison(found: Comparison, as_json: bool) -> None:
    """Every pruner's line, and what has to be known to read them."""
    if as_json:
        print_json(
            {
                "study": found.study,
                "workers": found.workers,
                "unended": found.unended,
                "cut": found.cut,
                "as_recorded": _facts(*found.lines[0]),
                "pruners": [_facts(pruner, saved) for pruner, saved in found.lines[1:]],
            }
        )
        return
    (_, recorded), *others = found.lines
    show([_line("as recorded", recorded), *(_line(_named(pruner), saved) for pruner, saved in others)])
    for pruner, saved in others:
        if saved.lost:
            numbers = ", ".join(map(str, saved.lost))
            print(f"{_named(pruner)} loses {len(saved.lost)} of {len(saved.front)} trials of the front: {numbers}.")
    workers = f"{found.workers} worker{'' if found.workers == 1 else 's'}"
    print(f"Simulated on {workers}, over the parameters that the sampler proposed when the study ran.")
    if found.cut:
        print(
            f"{_trials(found.cut)} had been pruned when the study ran: only that part of a curve is known, "
            "and its end is taken as pruned there."
        )
    if found.unended:
        print(f"{_trials(found.unended)} had not ended and {'is' if found.unended == 1 else 'are'} left out.")


def show_preview(found: Preview, as_json: bool) -> None:
    """What a study would do and cost: the median over the simulations, and 10 to 90 % of them."""
    if as_json:
        print_json(found)
        return
    at_most = "" if found.trials is None else f"{_trials(found.trials)} of "
    pruner = _named(found.pruner)
    print(f"Study {found.study}: {at_most}at most {found.epochs} epochs, {found.workers} at once, pruner {pruner}.\n")
    rows = {
        "trials started": found.started,
        "trials pruned": found.pruned,
        "epochs": found.spent,
        "share of all epochs": found.share,
        "hours of work": found.work_h,
        "hours until it ends": found.wall_h,
    }
    show([_spread("expected", name, spread) for name, spread in rows.items() if spread is not None])
    print()
    show([_spread("step", step, spread, "trials that come to it") for step, spread in found.reach.items()])
    print(f"\nSimulated {found.simulations} times over made-up learning curves; real ones may be kinder or harsher.")
    if found.epoch_s is None:
        print("How long it takes: give --epoch-s SECONDS, or --measure.")
    if found.confirm_epochs:
        print(f"Confirming the best comes after it, at most {found.confirm_epochs} epochs.")
    for remark in found.remarks:
        print(remark)


def _typed_pruner(text: str) -> Named:
    try:
        given = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError):
        given = None
    if isinstance(given, str):
        return Named(name=given)
    if isinstance(given, dict) and isinstance(given.get("name"), str) and all(isinstance(key, str) for key in given):
        return Named.model_validate(given)
    raise UserError(
        f"--pruner: write a name, or a pruner as a study file has it, "
        f"such as '{{name: pareto_median, keep: 0.6}}'; got {text!r}."
    )


def _line(name: str, saved: Savings) -> Row:
    single = saved.kept is None
    return {
        "pruner": name,
        "epochs": saved.epochs,
        "of recorded": _percent(saved.spent),
        "pruned": len(saved.pruned),
        **({"best": saved.best[1]} if single else {"hypervolume kept": _percent(saved.kept)}),
        "front lost": f"{len(saved.lost)} of {len(saved.front)}",
        "hours of work": float(f"{saved.work_s / 3600:.3g}"),
        "hours until it ends": float(f"{saved.wall_s / 3600:.3g}"),
    }


def _facts(pruner: Named, saved: Savings) -> dict[str, Any]:
    return {
        "pruner": pruner.model_dump(),
        "trials": saved.trials,
        "epochs": saved.epochs,
        "epochs_share": saved.spent,
        "hypervolume_kept": saved.kept,
        "best": saved.best[1],
        "front": saved.front,
        "front_lost": saved.lost,
        "work_s": saved.work_s,
        "wall_s": saved.wall_s,
        "pruned": [
            {"trial": trial.number, "step": trial.last_step, "reason": trial.reason.message if trial.reason else None}
            for trial in saved.pruned
        ],
    }


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _spread(head: str, name: object, spread: Spread, what: str = "median") -> Row:
    values = {what: spread.median, "10 %": spread.low, "90 %": spread.high}
    return {head: name, **{column: _short(value) for column, value in values.items()}}


def _short(value: float) -> float:
    """Three digits; a large count whole."""
    return float(f"{value:.3g}") if value < 100 else round(value)


def _named(pruner: Named) -> str:
    return f"{pruner.name} {params_text(_flat(pruner.options))}".rstrip()


def _flat(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rules inside a rule by their names."""
    return {
        name: "+".join(rule["name"] for rule in value) if name == "of" else value for name, value in options.items()
    }


def _trials(count: int) -> str:
    return f"{count} trial{'' if count == 1 else 's'}"
