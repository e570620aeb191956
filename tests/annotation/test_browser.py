"""The page in a real browser: labelled by keyboard, its server killed in between, nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rambo_ray.annotation import answers

from .pools import CLASSES, COLOURS, colour, of_colours

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 60_000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    with playwright.sync_playwright() as started:
        if found is None and not Path(started.chromium.executable_path).exists():
            pytest.skip(
                f"needs a browser: none of {', '.join(BROWSERS)}, nor playwright's (playwright install chromium)"
            )
        opened = started.chromium.launch(executable_path=found)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that reports errors of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda said: errors.append(said.text) if "Content Security" in said.text else None)
    yield opened
    context.close()
    assert errors == []


@contextmanager
def labelling(run: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`rambo label` as a process, and the address that it prints."""
    command = [
        sys.executable,
        str(ROOT / "jobs" / "label.py"),
        str(run),
        "--no-browser",
        "--annotator",
        "mia",
        *options,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            line = next(line for line in process.stdout if line.startswith("open"))
            yield process, line.split()[1]
        finally:
            process.kill()


def until(page: Any, script: str, argument: Any = None) -> None:
    """Wait until a script says so. (Playwright's own way needs eval, which the page's policy forbids.)"""
    end = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(script, argument):
        assert time.monotonic() < end, f"not within {PATIENCE_MS} ms: {script}"
        page.wait_for_timeout(20)


def begun(page: Any, address: str, name: str | None = None) -> None:
    """Open the page and give a name."""
    page.goto(address)
    page.wait_for_selector("#naming[open]")
    if name is not None:
        page.keyboard.type(name)
    page.keyboard.press("Enter")
    page.wait_for_selector("#frame img, #end:not([hidden])")


def seen(page: Any) -> int:
    """The class of the image on the screen, by its colour."""
    red, green, blue = page.evaluate(
        """() => {
            const canvas = document.createElement("canvas"), image = document.querySelector("#frame img");
            canvas.width = canvas.height = 1;
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0, 1, 1);
            return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
        }"""
    )
    return COLOURS.index((red, green, blue))


def pressed(page: Any, key: str, *, shows: str | None = None) -> None:
    """Press a key and wait until another image is there (the one with the id `shows`), or the end."""
    before = page.inner_text("#name") if page.is_visible("#name") else None
    page.keyboard.press(key)
    until(
        page,
        """([before, shows]) => {
            const name = document.getElementById("name").textContent, ended = !document.getElementById("end").hidden;
            const ready = document.querySelector("#frame img") !== null;
            return ended || (ready && (shows === null ? name !== before : name === shows));
        }""",
        [before, shows],
    )


def answered(log: Path) -> dict[str, str | None]:
    """What stands in the file: class by id, None for none of these."""
    return {answer.id: answer.label for answer in answers.standing(answers.read(log).answers) if answer.given}


def test_thirty_images_by_keyboard_with_the_server_killed_in_between(page: Any, tmp_path: Path) -> None:
    run = of_colours(tmp_path, 30)
    log = run / "labels.jsonl"
    ids = [f"deep/{number:03d}.png" for number in range(30)]
    truth: dict[str, str | None] = {name: CLASSES[number % 3] for number, name in enumerate(ids)}
    with labelling(run) as (process, address):
        begun(page, address)
        for number in range(12):
            assert page.inner_text("#name") == ids[number]
            assert seen(page) == number % 3
            if number == 5:  # a slip of the finger, taken back
                pressed(page, "3")
                pressed(page, "ArrowLeft", shows=ids[5])
            if number == 7:  # none of the classes
                truth[ids[7]] = None
                pressed(page, "-")
            else:
                pressed(page, str(1 + seen(page)))
            assert list(answered(log)) == ids[: number + 1]  # on the disk before the next image shows
        process.send_signal(signal.SIGKILL)
        process.wait()
        page.keyboard.press("1")  # the thirteenth, a cat: nobody is there to take it
        page.wait_for_selector("#trouble:not([hidden])")
        assert "not saved yet" in page.inner_text("#trouble")
        assert page.inner_text("#name") == ids[12]
        page.keyboard.press("2")  # pressing on does nothing
        assert len(answered(log)) == 12
    with labelling(run) as (process, again):
        assert again == address  # the page that is open goes on
        until(page, f"document.getElementById('name').textContent === '{ids[13]}'")
        assert page.is_hidden("#trouble")
        assert answered(log)[ids[12]] == CLASSES[0]
        page.reload()  # the name is kept
        page.wait_for_selector("#frame img")
        assert page.inner_text("#name") == ids[13]
        pressed(page, "ArrowLeft", shows=ids[12])  # what was said before the reload can be taken back
        for number in range(12, 30):
            pressed(page, "ArrowRight" if number == 20 else str(1 + seen(page)))
        assert page.is_visible("#end") and "29 of 30" in page.inner_text("#end_title")
        page.click("#again")  # the skipped one
        page.wait_for_selector("#frame img")
        assert page.inner_text("#name") == ids[20]
        pressed(page, str(1 + seen(page)))
        assert page.inner_text("#end_title") == "All 30 images are answered"
        assert page.inner_text("#command") == f"rambo labels {run}"
        took = page.evaluate("performance.getEntriesByName('answer').map((entry) => entry.duration)")
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        rest = process.stdout.read()
        assert process.wait(30) == 0
    assert answered(log) == truth and len(truth) == 30
    assert "30 of 30 images answered (mia 30)" in rest
    middle = sorted(took)[len(took) // 2]
    print(
        f"\nfrom the key to the next image: median {middle:.0f} ms, longest {max(took):.0f} ms of {len(took)} answers"
    )


def test_two_annotators_share_the_images_and_one_name_each(browser: Any, tmp_path: Path) -> None:
    run = of_colours(tmp_path, 30)
    with labelling(run) as (_, address):
        contexts = [browser.new_context(), browser.new_context()]
        mia, ben = (context.new_page() for context in contexts)
        begun(mia, address)
        begun(ben, address, "ben <i>")
        assert (mia.inner_text("#name"), ben.inner_text("#name")) == ("deep/000.png", "deep/012.png")
        for _ in range(30):
            for page in (mia, ben):
                if page.is_hidden("#end"):
                    pressed(page, str(1 + seen(page)))
        for page in (mia, ben):
            until(page, "document.getElementById('end_title').textContent.startsWith('All 30')")
        people = ben.inner_text("#people")
        for context in contexts:
            context.close()
    said = answers.read(run / "labels.jsonl").answers
    assert sorted(answer.id for answer in said) == [f"deep/{number:03d}.png" for number in range(30)]
    assert {answer.annotator for answer in said} == {"mia", "ben <i>"}
    assert all(answer.label == CLASSES[int(answer.id[5:8]) % 3] for answer in said)
    assert "ben <i>" in people and "mia" in people


def test_names_are_text_and_never_markup(page: Any, tmp_path: Path) -> None:
    bad = "<img src=x onerror=alert(1)>"
    run = of_colours(tmp_path, 2, [bad, "<b>dog</b>"], ["<b>x</b> &amp; '\".png", "b.png"])
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    with labelling(run) as (_, address):
        begun(page, address)
        assert page.inner_text("#name") == "<b>x</b> &amp; '\".png"
        assert page.inner_text("#class_0 span") == bad
        pressed(page, "1")
        assert page.inner_text("#undo_text") == f"Undo: {bad}"
        assert page.locator("b, img[src=x]").count() == 0
    assert answered(run / "labels.jsonl") == {"<b>x</b> &amp; '\".png": bad}


def test_many_classes_are_found_by_typing(page: Any, tmp_path: Path) -> None:
    classes = [f"{kind} {number}" for number in range(20) for kind in ("red fox", "box", "ox-eye")]
    run = of_colours(tmp_path, 3, classes)
    with labelling(run) as (_, address):
        begun(page, address)
        page.keyboard.type("ox")  # a beginning comes before a middle
        page.keyboard.press("ArrowDown")
        pressed(page, "Enter")
        assert page.input_value("#filter") == ""
        page.keyboard.type("fox 17")
        pressed(page, "Enter")
        page.keyboard.type("zebra")
        assert page.is_visible("#nothing")
        page.keyboard.press("Enter")  # takes nothing
        page.keyboard.press("Escape")
        pressed(page, "-")
    assert answered(run / "labels.jsonl") == {
        "deep/000.png": "ox-eye 1", "deep/001.png": "red fox 17", "deep/002.png": None,
    }  # fmt: skip


def test_an_image_that_cannot_be_shown_says_why_and_may_be_skipped(page: Any, tmp_path: Path) -> None:
    run = of_colours(tmp_path, 2)
    (tmp_path / "pool" / "deep" / "000.png").write_bytes(b"no image")
    with labelling(run) as (_, address):
        page.goto(address)
        page.wait_for_selector("#naming[open]")
        page.keyboard.press("Enter")
        until(page, "document.getElementById('frame').textContent.includes('cannot be shown')")
        assert "not a readable image" in page.inner_text("#frame")
        pressed(page, "ArrowRight")
        assert seen(page) == 1


def test_who_has_left_keeps_no_image_from_others(page: Any, tmp_path: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/more") else None)
    page.clock.install()
    with labelling(of_colours(tmp_path, 2)) as (_, address):
        begun(page, address)
        assert len(asked) == 1
        page.clock.run_for(60_000)  # somebody looks at the image: the page says that it holds it
        page.wait_for_timeout(500)
        held = len(asked)
        assert held > 1
        page.clock.fast_forward(600_000)
        page.clock.run_for(600_000)
        page.wait_for_timeout(500)
        assert len(asked) == held
        page.mouse.move(50, 50)
        page.mouse.move(60, 60)
        page.wait_for_timeout(500)
        assert len(asked) == held + 1
        pressed(page, "1")
        assert page.inner_text("#name") == "deep/001.png"


def test_the_name_can_be_changed_and_kept(page: Any, tmp_path: Path) -> None:
    run = of_colours(tmp_path, 3)
    with labelling(run) as (_, address):
        begun(page, address)
        pressed(page, "1")
        for key, name in (("Escape", "mia"), ("Enter", "ben"), ("Escape", "ben")):
            page.click("#who")
            page.wait_for_selector("#naming[open]")
            page.fill("#naming_name", "ben")
            page.keyboard.press(key)
            page.wait_for_selector("#naming:not([open])", state="attached")
            until(page, f"document.getElementById('who').textContent === '{name}'")
        page.wait_for_selector("#frame img")
        pressed(page, "2")
    said = answers.read(run / "labels.jsonl").answers
    assert [(answer.id, answer.annotator) for answer in said] == [("deep/000.png", "mia"), ("deep/001.png", "ben")]


@pytest.mark.parametrize("width", [1280, 390])
def test_everything_fits_the_window(page: Any, tmp_path: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    run = of_colours(tmp_path, 2, [f"class number {i}" for i in range(10)], side=1500)
    with labelling(run) as (_, address):
        begun(page, address)
        box = page.locator("#frame img").bounding_box()
        assert (
            box["x"] >= 0 and box["x"] + box["width"] <= width and box["width"] == pytest.approx(box["height"], abs=1)
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dock = page.locator("#dock").bounding_box()
        assert box["y"] + box["height"] <= dock["y"] and dock["y"] + dock["height"] <= 801
        for button in page.locator("#dock button").all():
            assert button.bounding_box()["height"] >= 44  # a thumb's width
        page.keyboard.press("+")
        assert page.locator("#frame img").bounding_box()["width"] >= min(1500, 2 * box["width"]) - 1


def test_small_images_are_crisp(page: Any, tmp_path: Path) -> None:
    with labelling(of_colours(tmp_path, 1)) as (_, address):
        begun(page, address)
        assert page.locator("#frame img").bounding_box()["width"] == 448  # 16 x 28
        assert page.evaluate("getComputedStyle(document.querySelector('#frame img')).imageRendering") == "pixelated"
        assert seen(page) == COLOURS.index(colour(0))
