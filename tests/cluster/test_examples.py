"""The examples, the notebook and the snippets of docs/python.md run, and say what they are there to say."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rambo_ray.cluster.session import Session

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.slow


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An example as a module of its own name, as a script's folder is where Python looks first."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    loaded: list[str] = []

    def load(name: str) -> ModuleType:
        loaded.append(name)
        return __import__(name)

    yield load
    for name in loaded:
        sys.modules.pop(name, None)


def test_arrays(session: Session, example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    picked = example("arrays").main()
    assert len(set(picked.ids)) == 40 and "rows of the pool to annotate" in capsys.readouterr().out


def test_before_spending(session: Session, example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cost, found = example("before_spending").main(folds=2)
    assert cost.run_seconds > 0 and cost.backtest_seconds > 0 and "utility samples" in str(cost)
    assert set(found.gains) == {"rambo", "badge", "margin"} and found.recommended in (*found.gains, "random")
    assert found.folder is None and found.played.num_pool == 400 and found.gains["badge"].rounds == 2
    assert found.overrides == ({} if found.recommended == "rambo" else {"acquisition.strategy": found.recommended})
    assert found.to_pandas().loc["badge", "gain"] == found.gains["badge"].mean and len(cost.to_pandas()) == len(cost)
    assert "points over random" in capsys.readouterr().out and "<pre>" in found._repr_html_()


def test_own_classifier(session: Session, example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = example("own_classifier")
    # In a script these are __main__'s, and travel to the workers; imported they go by a name that workers do not know.
    monkeypatch.setattr(module.network, "__module__", "__main__")
    found = module.main()
    assert {name: len(picked) for name, picked in found.items()} == {"network": 30, "trees": 30}


def test_scikit_activeml_loop(session: Session, example: Any) -> None:
    pytest.importorskip("skactiveml")
    scores = example("scikit_activeml_loop").main()
    assert set(scores) == {"margin", "RAMBO"}
    for before, after in scores.values():
        assert after > before > 0.7


def test_own_strategy(
    session: Session, example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = example("own_strategy")
    monkeypatch.setattr(module.dense_margins, "__module__", "__main__")
    assert module.main(str(tmp_path / "bench")) == 0
    lines = [json.loads(line) for line in (tmp_path / "bench" / "cells.jsonl").read_text().splitlines()]
    assert sorted({line["method"] for line in lines}) == ["dense_margins", "margin", "random"] and len(lines) == 6
    assert "dense_margins" in capsys.readouterr().out


def test_the_page_s_snippets(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) > 6
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/python.md, block {number}", "exec"), names)
    said = capsys.readouterr().out
    assert "labeled: images of floats from 0 to 16; must be in [0, 1]: give x / 16" in said
    assert len(names["rows"]) == 40 and len(names["picked"]) == 30


def test_the_notebook(tmp_path: Path) -> None:
    """In a kernel of its own, with a Ray of its own, as somebody who opens it has them."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    nbformat.validate(notebook)
    stored = EXAMPLES / "notebook.ipynb"
    assert any(cell.get("outputs") for cell in notebook.cells) and stored.stat().st_size < 400_000
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pages = [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert any("60 picked" in page and "<img" in page for page in pages)
