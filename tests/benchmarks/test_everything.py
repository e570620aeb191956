"""All benchmarks by one command: its table has what each said, and what failed."""

from __future__ import annotations

import json
from pathlib import Path

import everything
import pytest
from everything import Benchmark

QUICK = """
import json, sys
print("a line for people", *sys.argv[1:])
print(json.dumps({"benchmark": "quick", "ratio": 12.345, "rows": [1, 2]}))
"""


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three benchmarks of a folder of their own, one of which raises and one of which needs a GPU."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "quick.py").write_text(QUICK)
    (folder / "raises.py").write_text("raise ZeroDivisionError('of the script')")
    monkeypatch.setattr(everything, "HERE", folder)
    monkeypatch.setattr(everything.torch.cuda, "is_available", lambda: False)
    listed = {
        "raises": Benchmark("nothing to nothing", str, data=False),
        "quick": Benchmark("slow to fast", lambda found: f"{len(found['rows'])} rows", ("--threads", "1")),
        "card": Benchmark("models", str, gpu=True),
    }
    monkeypatch.setattr(everything, "BENCHMARKS", listed)
    return tmp_path


def test_the_table_has_what_each_said(
    scripts: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = scripts / "out"
    monkeypatch.setattr("sys.argv", ["everything.py", str(out), "--data", "/data"])
    assert everything.main() == 1
    said = capfd.readouterr().out
    assert "a line for people --data /data --threads 1 --json" in said and '{"benchmark"' not in said
    page = (out / "benchmarks.md").read_text()
    assert "| quick | slow to fast | 12.3 | 2 rows |" in page
    assert "`python benchmarks/quick.py --data DIR --threads 1`" in page
    assert "| raises | nothing to nothing |  | failed with exit code 1: see raises.log |" in page
    assert "| card | models |  | left out: no GPU here |" in page
    assert "ZeroDivisionError: of the script" in (out / "raises.log").read_text()
    lines = [json.loads(line) for line in (out / "benchmarks.jsonl").read_text().splitlines()]
    assert [(line["name"], line["code"]) for line in lines] == [("raises", 1), ("quick", 0)]


def test_one_alone_that_agrees(scripts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["everything.py", str(scripts / "out"), "--only", "quick"])
    assert everything.main() == 0


def test_every_listed_benchmark_is_there_and_in_the_readme() -> None:
    readme = (everything.HERE / "README.md").read_text(encoding="utf-8")
    for name in everything.BENCHMARKS:
        assert (everything.HERE / f"{name}.py").is_file() and f"| `{name}.py` |" in readme
