"""The page in a real browser: that it fits, keeps to itself, sorts, finds and copies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rambo_ray.report.page import render

from .made_content import HOSTILE, make_content
from .made_rounds import make_rounds_content
from .test_looks import of_vectors

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.usefixtures("coarse_figures"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
    pytest.mark.slow,
]

DESKTOP, PHONE = (1280, 900), (360, 740)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of a round's run, of one with long and hostile names, and of one on embeddings, as files."""
    long = make_content(
        prefix=f"{HOSTILE}/folder/of/many_letters_without_a_space" * 3, names=("a" * 300, HOSTILE, "猫")
    )
    contents = {"rounds": make_rounds_content(), "long": long, "vectors": of_vectors(make_content())}
    folder = tmp_path_factory.mktemp("pages")
    for name, content in contents.items():
        (folder / f"{name}.html").write_text(render(content), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in contents}


class Seen:
    """A page that was opened, and what it complained of and asked for."""

    def __init__(self, browser: Any, path: Path, size: tuple[int, int], scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def fetched(self) -> list[str]:
        """What was asked for besides the page itself and what it holds."""
        return [url for url in self.requests[1:] if not url.startswith("data:")]

    def column(self, number: int) -> list[str]:
        cells = f"#picked-rows tbody tr:not([hidden]) td:nth-child({number})"
        found: list[str] = self.page.eval_on_selector_all(cells, "cells => cells.map(cell => cell.textContent)")
        return found


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("name", ["rounds", "long", "vectors"])
def test_it_fits_and_keeps_to_itself(browser: Any, pages: dict[str, Path], name: str, size: tuple[int, int]) -> None:
    seen = Seen(browser, pages[name], size)
    wide = seen.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide[0] == wide[1]
    for link in seen.page.query_selector_all("nav a"):
        assert seen.page.query_selector(link.get_attribute("href")) is not None
    assert seen.complaints == [] and seen.fetched() == []
    seen.context.close()


def test_by_night_it_is_dark(browser: Any, pages: dict[str, Path]) -> None:
    by_day, by_night = (Seen(browser, pages["rounds"], DESKTOP, scheme) for scheme in ("light", "dark"))
    colors = [
        seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") for seen in (by_day, by_night)
    ]
    brightness = [sum(int(part) for part in color[4:-1].split(",")) for color in colors]
    assert brightness[0] > 600 and brightness[1] < 150


def test_the_list_is_sorted_found_in_and_copied(browser: Any, pages: dict[str, Path]) -> None:
    seen = Seen(browser, pages["rounds"], DESKTOP)
    seen.context.grant_permissions(["clipboard-read", "clipboard-write"])
    order, margins = seen.column(1), [float(value) for value in seen.column(3)]
    assert order == [str(i) for i in range(100)]
    head = "#picked-rows thead th:nth-child({}) button"
    seen.page.click(head.format(3))
    assert [float(value) for value in seen.column(3)] == sorted(margins)
    assert seen.page.get_attribute("#picked-rows thead th:nth-child(3)", "aria-sort") == "ascending"
    seen.page.click(head.format(3))
    assert [float(value) for value in seen.column(3)] == sorted(margins, reverse=True)
    seen.page.focus(head.format(1))
    seen.page.keyboard.press("Enter")  # by the keyboard, too
    assert seen.column(1) == order

    wanted = seen.column(2)[17]
    seen.page.fill("#find", wanted.upper())
    assert seen.column(2) == [wanted] and "1 of 100" in seen.page.text_content("#found")
    seen.page.click("#copy-rows")
    # Not wait_for_function, which asks for the eval that the page forbids.
    playwright.expect(seen.page.locator("#copy-rows")).to_have_text("Copied")
    head_line, row, *rest = seen.page.evaluate("navigator.clipboard.readText()").split("\n")
    assert head_line.split("\t") == ["order", "id", "margin", "guess", "utility", "step"]
    assert row.split("\t")[:2] == ["17", wanted] and rest == [""]
    assert seen.complaints == []


def test_rows_without_a_number_come_last_up_and_down(browser: Any, tmp_path: Path) -> None:
    content = make_content(budget=6, batch_size=6)
    utility = np.array([0.5, np.nan, -0.1, 12, np.nan, 3], np.float32)
    path = tmp_path / "page.html"
    path.write_text(render(replace(content, selection=replace(content.selection, utility=utility))), encoding="utf-8")
    seen = Seen(browser, path, DESKTOP)
    for wanted in ([-0.1, 0.5, 3, 12], [12, 3, 0.5, -0.1]):
        seen.page.click("#picked-rows thead th:nth-child(5) button")
        shown = seen.column(5)
        assert [float(value) for value in shown[:4]] == pytest.approx(wanted) and shown[4:] == ["–", "–"]


def test_commands_are_copied_and_the_map_answers(browser: Any, pages: dict[str, Path]) -> None:
    seen = Seen(browser, pages["rounds"], DESKTOP)
    seen.context.grant_permissions(["clipboard-read", "clipboard-write"])
    seen.page.click("button[data-copies=command-1-1]")
    playwright.expect(seen.page.locator("button[data-copies=command-1-1]")).to_have_text("Copied")
    assert seen.page.evaluate("navigator.clipboard.readText()") == seen.page.text_content("#command-1-1")
    assert not seen.page.is_visible("#map-card")
    seen.page.dispatch_event("#pool-map circle[data-order='3']", "pointerover")
    assert seen.page.text_content("#map-card") == seen.page.text_content("#pool-map circle[data-order='3'] title")
    sources = [seen.page.get_attribute(at, "src") for at in ("#map-card img", ".gallery li:nth-child(4) img")]
    assert sources[0] == sources[1] is not None
    seen.page.dispatch_event("#pool-map", "pointerleave")
    assert not seen.page.is_visible("#map-card") and seen.complaints == []
