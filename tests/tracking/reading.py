"""What the trackers hold, read back with their own libraries."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Curve = list[tuple[int, float]]


@dataclass
class Seen:
    """One run: its curves in the order of their steps, and how it ended. ``status`` is in the library's own words."""

    params: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    once: dict[str, float] = field(default_factory=dict)
    end: dict[str, str] = field(default_factory=dict)
    status: object = None
    parts: int = 1
    files: list[str] = field(default_factory=list)


def mlflow_runs(uri: str, experiment: str) -> dict[str, Seen]:
    from mlflow import MlflowClient

    client, found = MlflowClient(uri), {}
    place = client.get_experiment_by_name(experiment)
    parents = {}
    for run in client.search_runs([place.experiment_id]):
        tags = {name.removeprefix("hpo."): value for name, value in run.data.tags.items()}
        if "number" not in tags:
            parents[run.info.run_id] = tags["series"]
    for run in client.search_runs([place.experiment_id], "tags.`hpo.number` != ''"):
        tags = {name.removeprefix("hpo."): value for name, value in run.data.tags.items()}
        name = f"{tags['series']}-{tags['number']}"
        assert name not in found, f"{name} stands there twice"
        assert parents[tags["mlflow.parentRunId"]] == tags["series"]
        assert run.info.run_name == f"trial-{tags['number']}"
        curves = {
            metric: sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, metric))
            for metric in run.data.metrics
        }
        once = {key: curves.pop(key)[-1][1] for key in list(curves) if key == "size_mb" or key.startswith("goal/")}
        files = [file.path for file in client.list_artifacts(run.info.run_id)]
        found[name] = Seen(dict(run.data.params), curves, once, tags, run.info.status, files=files)
    assert sorted(parents.values()) == sorted(set(parents.values())), "one parent per series"
    return found


def tensorboard_runs(folder: Path) -> dict[str, Seen]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found = {}
    for place in sorted(folder.iterdir()):
        series, _, number = place.name.rpartition("-")
        events = EventAccumulator(str(place), size_guidance={"scalars": 0}).Reload()
        curves = {
            tag: sorted((event.step, event.value) for event in events.Scalars(tag)) for tag in events.Tags()["scalars"]
        }
        once = {key: curves.pop(key)[-1][1] for key in list(curves) if key == "size_mb" or key.startswith("goal/")}
        parsed = {
            tag.rpartition("/")[2]: HParamsPluginData.FromString(meta.plugin_data.content)
            for tag, meta in events.summary_metadata.items()
            if tag.startswith("_hparams_")
        }
        hparams = parsed["session_start_info"].session_start_info.hparams
        params = {name: getattr(value, value.WhichOneof("kind")) for name, value in hparams.items()}
        end, status = {}, None
        if "end" in events.Tags()["tensors"]:
            text = events.Tensors("end")[-1].tensor_proto.string_val[0].decode()
            end = dict(re.findall(r"^- (\w+): (.*)$", text, re.MULTILINE))
        if "session_end_info" in parsed:
            status = parsed["session_end_info"].session_end_info.status
        parts = len(list(place.glob("events.out.*")))
        found[f"{series}-{int(number)}"] = Seen(params, curves, once, end, status, parts)
    return found


def wandb_runs(folder: Path) -> dict[str, Seen]:
    """From the files that ``wandb sync`` would send, those of one run put together as the server does."""
    from wandb.proto.wandb_internal_pb2 import Record

    by_id: dict[str, Seen] = {}
    names: dict[str, str] = {}
    for path in sorted(folder.glob("*run-*/*.wandb")):
        run_id = path.stem.removeprefix("run-")
        seen = by_id.setdefault(run_id, Seen(parts=0))
        seen.parts += 1
        for payload in _payloads(path):
            record = Record.FromString(payload)
            match record.WhichOneof("record_type"):
                case "run":
                    config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
                    seen.params = {key: value for key, value in config.items() if key not in ("hpo", "_wandb")}
                    if "hpo" in config:
                        assert record.run.run_group == config["hpo"]["study"]
                        assert record.run.job_type == config["hpo"]["series"]
                        names[run_id] = f"{record.run.job_type}-{config['hpo']['number']}"
                case "history":
                    row = {_key(item): json.loads(item.value_json) for item in record.history.item}
                    for name, value in row.items():
                        if name != "epoch" and not name.startswith("_"):
                            seen.curves.setdefault(name, []).append((row["epoch"], float(value)))
                case "summary":
                    for item in record.summary.update:
                        value = json.loads(item.value_json)
                        if _key(item) == "size_mb" or _key(item).startswith("goal/"):
                            seen.once[_key(item)] = value
                        elif isinstance(value, str):
                            seen.end[_key(item)] = value
                case "exit":
                    seen.status = record.exit.exit_code
    for seen in by_id.values():
        for curve in seen.curves.values():
            curve.sort(key=lambda point: point[0])
    return {names[run_id]: seen for run_id, seen in by_id.items()}


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _payloads(path: Path) -> Iterator[bytes]:
    """The records of wandb's file: LevelDB's log format (blocks of 32 KiB) after 7 bytes of header."""
    data, at, payload = path.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        payload += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield payload
            payload = b""
