"""A password never reaches a row, a file, a log, a report or the terminal."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, create_engine
from typer.testing import CliRunner

import cli
from tests.processes import PATIENCE_S, start, wait_for_points
from tests.servers import Server, drop_database, new_database
from tests.studies import BRANIN, write

PASSWORD = "s3kretw0rd"


def every_cell(url: str) -> str:
    """All that a database holds, table by table."""
    engine = create_engine(url)
    metadata = MetaData()
    metadata.reflect(engine)
    with engine.connect() as connection:
        found = [str(row) for table in metadata.sorted_tables for row in connection.execute(table.select())]
    engine.dispose()
    assert len(found) > 50
    return "\n".join(found)


def every_file(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_the_password_of_a_server_is_nowhere(tmp_path: Path, postgres: Server) -> None:
    bare = new_database(postgres)
    url = bare.replace("hpo@", f"hpo:{PASSWORD}@")
    assert PASSWORD in url
    fields: dict[str, Any] = {
        "data": {"function": "zdt1", "epoch_s": 0.05}, "goals": [{"metric": "f1"}, {"metric": "f2"}],
        "mirror": str(tmp_path / "mirror"), "retrain": {"confirm": 1},
    }  # fmt: skip
    write(tmp_path, **fields, budget={"trials": 100_000, "epochs": 4})  # no end of its own
    process = start(tmp_path, url)
    wait_for_points(bare, process)
    process.send_signal(signal.SIGINT)
    told = [*process.communicate(timeout=PATIENCE_S)]
    write(tmp_path, **fields, budget={"trials": 6, "epochs": 4})
    assert "Go on with: hpo launch" in "".join(told)
    for line in (
        f"launch {tmp_path}/branin.yaml --skip-preflight", "show branin --launches --json", "why branin 0",
        "logs branin --trial 0", "logs branin --json", "watch branin", f"report branin --out {tmp_path}/report",
        "stop branin", "db check", "db backup",
    ):  # fmt: skip
        told.append(run(*line.split(), "--storage", url))
    told.append(run("list", "--storage", f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:9/none"))
    assert PASSWORD not in "".join(told)
    cells = every_cell(bare)
    assert "branin" in cells and PASSWORD not in cells
    assert PASSWORD.encode() not in every_file(tmp_path)
    drop_database(postgres, bare)


def run(*words: str) -> str:
    """Everything that a command says."""
    done = CliRunner().invoke(cli.app, [*words])
    return f"{done.output}{done.exception}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", {"function": "branin", "labels": "postgresql://me:{}@host/labels"}),
        ("data", {"function": "branin", "several": [{"at": "https://me:{}@host/x"}]}),
        ("tracking", [{"name": "mlflow", "uri": "postgresql://me:{}@host/mlflow"}]),
        ("mirror", "s3://key:{}@bucket/x"),
        ("artifacts", {"place": "s3://key:{}@bucket/x"}),
        ("warm_start", {"study": "old", "storage": "postgresql://me:{}@host/db"}),
    ],
)
@pytest.mark.parametrize("command", ["check", "launch"])
def test_a_password_in_a_study_file_is_refused_and_not_shown(
    tmp_path: Path, sqlite_url: str, command: str, field: str, value: Any
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps({**BRANIN, field: value}).replace("{}", PASSWORD))
    told = run(command, str(path), *(["--storage", sqlite_url] if command == "launch" else []))
    assert field in told
    assert PASSWORD not in told
    assert [file.name for file in tmp_path.iterdir()] == ["s.yaml"]
