"""What the report of many trials costs: to make it, and to open it in Chromium.

    python benchmarks/report_scale.py [--trials 100 1000 20000] [--epochs 20] [--rounds 3] [--throttle 1]

A made-up study of three goals and eight parameters; three tenths of the trials are pruned. Making is
`write_report` alone, on a snapshot in memory. Opening is Chromium from the start of the navigation to the first
figure drawn and the page answering, and to the last figure; the longest single task says for how long the page
cannot answer meanwhile. Beside the clock stand the CPU seconds, of all threads, that the page's process had used by
the first figure: on a machine that does other things they say more. Then the trial table: a sort and a filter, from
the event to the next frame.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hpo.reports.page import write_report
from hpo.trial import Direction, Goal, Point, StopKind, StopReason, TrialRecord, TrialState
from storage.records import AttemptRecord, LaunchRecord, Snapshot, StudyRecord

GOALS = (Goal("val_loss"), Goal("samples_per_s", Direction.MAXIMIZE), Goal("peak_memory_mb"))
WORKERS, DIMS, PRUNED = 8, 5, 0.3
START = datetime(2026, 1, 1, tzinfo=UTC)
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
DONE = StopReason(StopKind.FINISHED, "ran all its epochs")


def made_up(trials: int, epochs: int) -> Snapshot:
    """A finished study; the same every time."""
    draw = random.Random(0)
    spec = f"name: scale\nbudget: {{trials: {trials}, epochs: {epochs}}}\n"
    study = StudyRecord("scale", "analytic", spec, "0" * 64, GOALS, GOALS[0], "none", at(0), (4.0, 0.0, 3000.0))
    free = [0.0] * WORKERS
    records, attempts = [], []
    for number in range(trials):
        lane = free.index(min(free))
        record = trial(number, epochs, draw, lane, free[lane])
        free[lane] += record.last_step * 1.5 + 1
        records.append(record)
        how = record.reason.kind.value if record.reason else None
        attempts.append(AttemptRecord(number, 1, record.worker, record.started_at or "", record.finished_at, how))
    launch = LaunchRecord(at(0), at(max(free)), "budget spent", "tower", 1, "ray", WORKERS)
    return Snapshot(study, tuple(records), launches=(launch,), attempts=tuple(attempts))


def trial(number: int, epochs: int, draw: random.Random, lane: int, start_s: float) -> TrialRecord:
    params: dict[str, Any] = {f"x{i}": draw.random() for i in range(DIMS)}
    params |= {
        "lr": 10 ** draw.uniform(-5, -1), "width": draw.randint(16, 512), "optimizer": draw.choice(["adamw", "sgd"])
    }  # fmt: skip
    floor = 0.1 + 0.1 * (math.log10(params["lr"]) + 3) ** 2 + sum((params[f"x{i}"] - 0.4) ** 2 for i in range(DIMS))
    floor += 4 / params["width"] + draw.gauss(0, 0.02)
    once = {"samples_per_s": 9000 / params["width"] ** 0.6, "peak_memory_mb": 100 + 4.0 * params["width"]}
    stop = draw.randint(2, epochs - 1) if draw.random() < PRUNED else epochs
    points = tuple(
        Point(step, {"val_loss": floor + math.exp(-step / 5) + draw.gauss(0, 0.01), "train_loss": floor * 0.9})
        for step in range(1, stop + 1)
    )
    best = min(points, key=lambda point: point.metrics["val_loss"])
    metrics = {**best.metrics, **once}
    pruned = stop < epochs
    reason = StopReason(StopKind.PRUNED, f"pruned at step {stop}: below the median") if pruned else DONE
    return TrialRecord(
        number, TrialState.PRUNED if pruned else TrialState.COMPLETE, params, number,
        None if pruned else tuple(metrics[goal.metric] for goal in GOALS), metrics, best.step, stop, reason,
        worker=f"worker-{lane}", started_at=at(start_s), finished_at=at(start_s + stop * 1.5), points=points,
        epochs=epochs,
    )  # fmt: skip


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def opened(page_file: Path) -> dict[str, float]:
    """Milliseconds of one opening in a browser of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(WATCH)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        page.goto(page_file.as_uri(), wait_until="commit")
        page.wait_for_function("window.seen.first > 0", timeout=300_000, polling=20)
        metrics = session.send("Performance.getMetrics")["metrics"]
        cpu_s = next(metric["value"] for metric in metrics if metric["name"] == "ProcessTime")
        page.wait_for_selector("html[data-drawn]", timeout=300_000, state="attached")
        found = page.evaluate("({...window.seen, longest: Math.max(0, ...window.tasks)})")
        found |= {"cpu": 1000 * cpu_s, **(page.evaluate(TABLE) or {})}
        browser.close()
    return found


# ``first``: a figure is on the page, and a frame has passed after it, so the page answers.
WATCH = """
const seen = window.seen = {}, tasks = window.tasks = [];
new PerformanceObserver((list) => list.getEntries().forEach((task) => tasks.push(task.duration)))
  .observe({ type: "longtask", buffered: true });
const watch = setInterval(() => {
  if (!seen.first && document.querySelector(".js-plotly-plot .main-svg")) {
    seen.first = -1;
    requestAnimationFrame(() => setTimeout(() => { seen.first = performance.now(); }));
  }
  if (document.documentElement.dataset.drawn) { seen.all = performance.now(); clearInterval(watch); }
}, 5);
"""
TABLE = """
async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const table = document.getElementById("trial-table"), filter = document.getElementById("filter");
  if (!table) return null;
  const times = {};
  let began = performance.now();
  table.tHead.rows[0].cells[4].querySelector("button").click();
  await frame();
  times.sort = performance.now() - began;
  began = performance.now();
  filter.value = "pruned sgd";
  filter.dispatchEvent(new Event("input"));
  await frame();
  await new Promise((done) => setTimeout(done, 200));
  await frame();
  times.filter = performance.now() - began - 200;
  return times;
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 20_000])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    print("| trials | made (s) | page (MB) | first figure (s) | CPU (s) | all (s) | longest task, sort, filter (ms) |")
    print("|---|---|---|---|---|---|---|")
    for trials in chosen.trials:
        snapshot = made_up(trials, chosen.epochs)
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            index = write_report(snapshot, Path(folder))[0]
            made_s = time.perf_counter() - began
            rounds = [opened(index) for _ in range(chosen.rounds)]
            size_mb = index.stat().st_size / 2**20
        middle = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
        print(
            f"| {trials:,} | {made_s:.1f} | {size_mb:.1f} | {middle['first'] / 1000:.2f} "
            f"| {middle['cpu'] / 1000:.2f} | {middle['all'] / 1000:.2f} "
            f"| {middle['longest']:.0f}, {middle.get('sort', 0):.0f}, {middle.get('filter', 0):.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
