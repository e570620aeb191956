"""`rambo inspect`: what a run would read, in words, and every reason why it would be refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from rambo_ray.cli.main import main
from rambo_ray.config import loading
from rambo_ray.data import datasets

from ..annotation.runs import finished
from ..data.written_images import pictures, write_file


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for part, count in (("labeled", 40), ("validation", 40)):
        for i, image in enumerate(pictures(count, seed=count + len(part))):
            write_file(tmp_path / part / ("cat", "dog")[i % 2] / f"{i}.png", image)
    for i, image in enumerate(pictures(80, seed=9)):
        write_file(tmp_path / f"pool/{i}.png", image)
    monkeypatch.chdir(tmp_path)
    return tmp_path


OWN = ("data.name=own", "data.labeled=labeled", "data.validation=validation", "data.pool=pool")
SMALL = ("acquisition.budget=20", "acquisition.batch_size=10")


def test_what_is_read(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "pool/notes.txt").write_text("x")
    assert main(["inspect", *OWN, *SMALL]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    for line in (
        "data.labeled=labeled: folder of images, 40 images of 6x6 pixels, grey\n  2 classes: cat 20, dog 20",
        "data.pool=pool: folder of images, 80 images of 6x6 pixels, grey\n  files passed over: 1 .txt",
        "S_0 40, S_val 40, pool 80; 2 classes",
        "warning: S_val has only 40 images",
        "a run can begin",
    ):
        assert line in said.out
    assert sorted(path.name for path in photos.iterdir()) == ["labeled", "pool", "validation"]  # nothing is written


def test_every_reason_is_said(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "pool/3.png").write_bytes(b"")
    (photos / "validation/cat").rename(photos / "validation/kat")
    assert main(["inspect", *OWN]) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 2 and all(line.startswith("rambo inspect: error: data.") for line in lines)
    assert "class 'kat'" in lines[0] and "not a readable image" in lines[1]
    assert "a run can begin" not in said.out


def test_what_the_run_itself_would_refuse(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", *OWN, "acquisition.budget=81", "acquisition.batch_size=10"]) == 2
    assert "acquisition.budget=81" in capsys.readouterr().err


def test_warnings(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_file(photos / "labeled/owl/1.png", pictures(1, seed=99)[0])
    (photos / "pool/copy.png").write_bytes((photos / "pool/1.png").read_bytes())
    assert main(["inspect", *OWN, *SMALL]) == 0
    said = capsys.readouterr().out
    for line in (
        "warning: no validation image of 'owl'", "warning: a single labelled image of 'owl'",
        "warning: 1 of the 81 pool images are exact copies",
    ):  # fmt: skip
        assert line in said


def test_built_in_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "data.num_validation=300"]) == 0
    assert "S_0 200, S_val 300" in capsys.readouterr().out


def test_a_configuration_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "data.name=own"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_images_of_several_pages_are_counted(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a multi-page TIFF, or an animation, the first page is read: not in silence."""
    pages = [Image.fromarray(image[..., 0]) for image in pictures(3, seed=77)]
    pages[0].save(photos / "pool/stack.tif", save_all=True, append_images=pages[1:])
    pages[1].save(photos / "pool/moving.gif", save_all=True, append_images=pages[2:])
    pages[2].save(photos / "pool/one.tif")
    # As cameras write them: a photograph, and behind it a preview.
    pages[0].save(photos / "pool/camera.jpg", format="MPO", save_all=True, append_images=pages[1:2])
    assert main(["inspect", *OWN, *SMALL, "data.channels=1"]) == 0
    shown = capsys.readouterr().out
    assert "pool: folder of images, 84 images" in shown and shown.count("several pages or frames") == 1
    assert "\n  2 images have several pages or frames: the first is read\n" in shown
    problem, _ = datasets.load(loading.load(None, [*OWN, "data.channels=1"]).data, 0)
    assert (problem.pool.array[problem.pool.ids.index("stack.tif")] == pictures(3, seed=77)[0]).all()


def test_a_later_round_is_looked_at_with_what_was_bought(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = [*OWN, *SMALL]
    problem, _ = datasets.load(loading.load(None, keys).data, 0)
    run = finished(photos / "run", problem.pool.ids[:20], problem.class_names, keys)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["data"] |= {"fingerprint": problem.fingerprint, "pool_fingerprint": problem.pool_fingerprint}
    (run / "manifest.json").write_text(json.dumps(manifest))
    rows = [f"{name},{('cat', 'dog')[i % 2]}" for i, name in enumerate(problem.pool.ids[:15])]
    (photos / "answers.csv").write_text("\n".join(["id,label", *rows]))
    assert main(["labels", "run", "answers.csv", "--no-train"]) == 0
    capsys.readouterr()
    assert main(["inspect", "--round", "2", "--after", "run"]) == 0
    shown = capsys.readouterr().out
    assert "round 2, after" in shown and "15 images have joined S_0" in shown
    assert "S_0 55, S_val 40, pool 65; 2 classes" in shown and "a run can begin" in shown
    # One budget too large for what is left, and a round that has no round before it.
    assert main(["inspect", "--after", "run", "acquisition.budget=66"]) == 2
    assert "acquisition.budget=66: B must not exceed the pool's 65 images" in capsys.readouterr().err
    for command in ("inspect", "plan", "backtest"):
        assert main([command, *keys, "--round", "2"]) == 2
        assert "--round 2: goes on from another round; give its directory: --after DIR" in capsys.readouterr().err
