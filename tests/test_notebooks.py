"""Notebooks run from top to bottom, and are stored without outputs."""

import pathlib

import pytest

nbformat = pytest.importorskip("nbformat")
FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_stored_without_outputs(path):
  cells = nbformat.read(path, as_version=4).cells
  code = [cell for cell in cells if cell.cell_type == "code"]
  assert len(code) > 0
  assert [c.outputs for c in code] == [[]] * len(code)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs(path, tmp_path, monkeypatch):
  nbclient = pytest.importorskip("nbclient")
  monkeypatch.setenv("JAXLM_STEPS", "20")
  monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
  notebook = nbformat.read(path, as_version=4)
  nbclient.NotebookClient(
    notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}
  ).execute()
  printed = str(notebook.cells[-1].outputs)
  assert "model.safetensors" in printed
