"""What ``hpo reproduce`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo.printing.tables import print_json, show

if TYPE_CHECKING:
    from hpo.export.again import Sameness
    from hpo.service import Reproduced


def show_reproduced(found: Reproduced, as_json: bool) -> None:
    """Whether the second training gave the same model, and how far it is from it."""
    same = found.sameness
    if as_json:
        print_json(
            {
                "study": found.study,
                "seed": found.seed,
                "equal": same.is_equal,
                "sameness": same,
                "outputs": None if same.outputs is None else same.outputs.model_dump(),
                "metrics": {name: {"then": then, "now": now} for name, (then, now) in found.metrics.items()},
                "best_epoch": found.best_epoch,
                "ended": found.ended,
                "deterministic": found.is_deterministic,
                "environment": found.environment,
                "folder": None if found.folder is None else str(found.folder),
            }
        )
        return
    print(f"{found.study}, trained again with seed {found.seed}: {'equal' if same.is_equal else 'NOT EQUAL'}.")
    for line in _lines(same):
        print(f"  {line}")
    if not same.is_equal or any(then != now for then, now in found.metrics.values()):
        for name, (then, now) in (("Best epoch", found.best_epoch), ("It ended", found.ended)):
            if then != now and then is not None:
                print(f"  {name}: then {then}, now {now}.")
        show([{"metric": name, "then": then, "now": now} for name, (then, now) in found.metrics.items()])
    elif found.metrics:
        print(f"  Its test metrics are equal, too: {', '.join(found.metrics)}.")
    if not found.is_deterministic:
        usual = "on one CPU it usually comes out equal nevertheless"
        print(f"  The study is not deterministic, so equality is not promised; {usual}.")
    if not same.is_equal and found.environment:
        print(f"  What differs around it: {'; '.join(found.environment)}.")
    if found.folder is not None:
        print(f"The run is kept in {found.folder}.")


def _lines(same: Sameness) -> list[str]:
    if same.is_equal and same.by_weights:
        return [f"Every one of its {same.n_tensors} tensors is the same, bit for bit."]
    lines = []
    if not same.by_weights:
        lines.append(
            "An earlier version of hpo wrote the bundle, with no checksum of its weights: outputs are compared."
        )
    elif same.n_equal is None:
        lines.append("The weights have another checksum; the bundle does not hold them, so outputs are compared.")
    else:
        lines.append(f"{same.n_equal} of {same.n_tensors} tensors are the same, bit for bit.")
        lines.append(f"Furthest is {same.tensor}: |now - then| / |then| = {same.difference:.3g}.")
    worst = same.outputs
    if worst is not None:
        most = "a number that is not finite" if worst.difference is None else f"{worst.difference:.3g} at most"
        share = "" if worst.bound_share is None else f", {worst.bound_share:.3g} of the bundle's tolerance"
        lines.append(f"On the stored rows output {worst.output} differs by {most}{share}.")
    return lines
