"""A finished run whose samples were damaged, and one that grows: only what is lost or new is computed."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rambo_ray.cli.run import execute

from .problems import smoke


@pytest.mark.slow
def test_what_was_damaged_is_trained_again_and_the_selection_is_the_same(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, selection = copied_run / "utility_samples", copied_run / "selection.parquet"
    path = max(folder.glob("part-*.parquet"), key=lambda p: p.stat().st_size)
    lost = {row["sample_id"] for row in pq.read_table(path).to_pylist()}
    lost -= {r["sample_id"] for p in folder.glob("part-*") if p != path for r in pq.read_table(p).to_pylist()}
    content = path.read_bytes()
    path.write_bytes(content[:500] + bytes([content[500] ^ 4]) + content[501:])
    expected = selection.read_bytes()
    selection.unlink()

    def again(*changes: str) -> dict:
        return execute(smoke(f"output.dir={copied_run}", *changes))["collect"]

    capsys.readouterr()
    collected = again()
    assert (collected["damaged_files"], collected["retrained"]) == (1, len(lost)) and lost
    assert f"{path} is damaged: its content does not match the checksum in its name; set aside as" in (
        capsys.readouterr().out
    )
    assert selection.read_bytes() == expected
    # Another solver trains nothing, and leads back again; each further repeat is trained once.
    collected = again("utility_samples.otdd_solver=emd")
    assert (collected["damaged_files"], collected["retrained"]) == (0, 0)
    assert again()["retrained"] == 0 and selection.read_bytes() == expected
