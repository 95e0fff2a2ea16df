"""The committed notebook, run as it stands in a kernel of this Python."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.studies import rows

ROOT = Path(__file__).parent.parent.parent
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
MISTAKE = "hpo.open_study('digitz')"


def outputs(notebook: Any, line: str) -> list[Any]:
    """What the cell whose first line this is gave."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.splitlines()[0] == line]
    return list(cell.outputs)


@pytest.mark.slow
def test_the_quickstart_runs_in_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PLOTLY_RENDERER", "plotly_mimetype")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("HPO_STORAGE", raising=False)
    monkeypatch.delenv("HPO_RUNS", raising=False)
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    mistake = nbformat.v4.new_code_cell(MISTAKE)
    notebook.cells.append(mistake)
    place = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=900, startup_timeout=300, resources=place, allow_errors=True)
    client.execute()

    failed = [output for cell in notebook.cells[:-1] if cell.cell_type == "code" for output in cell.outputs
              if output.output_type == "error"]  # fmt: skip
    assert not failed
    url = f"sqlite:///{tmp_path / 'hpo.db'}"
    assert rows(url, "SELECT count(*) FROM hpo_trials WHERE state IN ('complete', 'pruned')") == [(16,)]
    (progress,) = outputs(notebook, "study = hpo.launch(")  # one output, drawn again at its place
    assert re.search(r"\d+ done .* 0 running", progress.data["text/plain"])
    (card,) = outputs(notebook, "study")
    assert "<svg" in card.data["text/html"]
    (figure,) = outputs(notebook, "study.plot_front()")
    assert figure.data["application/vnd.plotly.v1+json"]["data"]
    (wrong,) = mistake.outputs
    assert wrong.traceback == ["hpo: Unknown study 'digitz'. Known: digits. Did you mean 'digits'?"]


def test_the_committed_outputs_are_whole_small_and_of_no_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert kinds == {"display_data", "execute_result"}  # no errors, no warnings
    assert len(text) < 300_000
    assert not re.findall(r"/(?:home|root|tmp|work|usr|Users)/", text)


@pytest.mark.parametrize("name", ["examples/quickstart.ipynb", "docs/notebook.md"])
def test_the_readme_leads_to_it(name: str) -> None:
    assert f"]({name})" in (ROOT / "README.md").read_text(encoding="utf-8")
