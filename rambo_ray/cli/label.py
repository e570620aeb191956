"""`rambo label`: a page on this machine, on which people say what the picked images are."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import threading
import time
import webbrowser
from pathlib import Path

from rambo_ray.annotation import answers, request, serving
from rambo_ray.annotation.desk import Refused, Standing, check_name
from rambo_ray.annotation.server import ANY, LOOPBACK
from rambo_ray.displays import JsonLines
from rambo_ray.errors import UserError
from rambo_ray.progress import duration

TORN = "labels.jsonl: its last line, cut off by a crash before its annotator was told so, is dropped: {}"
EVERY_S = 10.0
"""Between two lines of progress where no terminal rewrites its own, in seconds."""


def called(parsed: argparse.Namespace) -> int:
    """The command `label`; returns its exit code."""
    annotator = _user() if parsed.annotator is None else parsed.annotator
    try:
        check_name(annotator)
    except Refused as error:
        raise UserError(f"--annotator: {error}") from error
    asked = request.read(parsed.folder)
    path = asked.folder / answers.LABELS
    told = (parsed.folder, asked.folder.resolve().name, parsed.share, parsed.host)
    teller: Teller
    if parsed.log_json:
        teller = Events(*told, browser=not parsed.no_browser, path=path)
    elif parsed.quiet:
        teller = Silent(*told, browser=not parsed.no_browser, path=path)
    else:
        teller = Teller(*told, browser=not parsed.no_browser, path=path)
    standing = serving.serve(
        asked,
        teller,
        annotator=annotator,
        share=parsed.share,
        host=parsed.host,
        port=parsed.port,
        ids=parsed.ids,
    )
    teller.ended(standing)
    return 0


class Teller(serving.Listener):
    """What a person at the terminal is told."""

    def __init__(self, given: str, title: str, share: str, host: str, *, browser: bool, path: Path) -> None:
        """given: the folder as it was typed; path: of the answers."""
        self._given, self._title, self._share, self._host, self._browser = given, title, share, host, browser
        self._path = path
        self._in_place, self._last, self._width = sys.stdout.isatty(), 0.0, 0

    def opened(self, address: str, once: str, standing: Standing, torn: str | None, hidden: int | None) -> None:
        """Where the page is and how far the work is."""
        total = standing.total
        print(
            f"{self._title}: {total} images to label" + (f", {standing.done} of them answered" if standing.done else "")
        )
        if torn is not None:
            print(TORN.format(torn))
        shared = "annotators share the images" if self._share == "split" else "every annotator sees every image"
        print(f"open  {address}")
        if self._host in ANY:
            print("      (from other machines: their name for this one instead of 127.0.0.1)")
        if self._host not in LOOPBACK:
            print(
                f"      (--host {self._host}: unencrypted, and whoever has the address can see the images and answer)"
            )
        if hidden:
            print(f"      ({hidden} of the ids say a class, so none stands under its image; --ids show shows them)")
        print(f"      ({shared}; each answer is on the disk before the next image; Ctrl+C ends it)", flush=True)
        self._open(once)

    def _open(self, once: str) -> None:
        """A browser, where one would have a window."""
        if self._browser and _has_display():
            threading.Thread(target=webbrowser.open, args=(once,), daemon=True).start()

    def said(self, annotator: str, standing: Standing) -> None:
        """One line, not too often."""
        now = time.monotonic()
        if not self._in_place and now - self._last < EVERY_S and standing.done < standing.total:
            return
        self._last = now
        parts = [f"{standing.done} of {standing.total} answered" + (f" by {annotator}" if self._share == "all" else "")]
        if standing.per_hour is not None:
            parts.append(f"{annotator} {standing.per_hour:.0f} an hour")
        if standing.left_s is not None and standing.done < standing.total:
            parts.append(f"{duration(standing.left_s)} left")
        text = ", ".join(parts)
        if self._in_place:
            padded, self._width = text.ljust(self._width), len(text)
            print(f"\r{padded}", end="", flush=True)
        else:
            print(text, flush=True)

    def ended(self, standing: Standing) -> None:
        """How far the work is, and what comes next."""
        answered = sum(1 for count in standing.annotators.values() if count)
        by = ", ".join(f"{name or 'no name'} {count}" for name, count in sorted(standing.annotators.items()))
        print(
            ("\n" if self._in_place and self._width else "")
            + f"{standing.done} of {standing.total} images answered"
            + (f" ({by})" if answered else "")
        )
        if standing.done < standing.total:
            print(f"go on          rambo label {self._given}")
        if standing.done:
            print(f"use them       rambo labels {self._given}")


class Silent(Teller):
    """`--quiet`: the address, without which nobody could label, and at the end the path of the answers."""

    def opened(self, address: str, once: str, standing: Standing, torn: str | None, hidden: int | None) -> None:
        """The address alone."""
        print(address, flush=True)
        self._open(once)

    def said(self, annotator: str, standing: Standing) -> None:
        """Nothing."""

    def ended(self, standing: Standing) -> None:
        """Where the answers are."""
        print(self._path, flush=True)


class Events(Teller):
    """`--log-json`: an object per line and event; the first message ends with the address."""

    def __init__(self, given: str, title: str, share: str, host: str, *, browser: bool, path: Path) -> None:
        super().__init__(given, title, share, host, browser=browser, path=path)
        self._lines = JsonLines(sys.stdout)

    def opened(self, address: str, once: str, standing: Standing, torn: str | None, hidden: int | None) -> None:
        """How far the work is, and the address."""
        self._lines.said(f"open {address}")
        if torn is not None:
            self._lines.said(TORN.format(torn))
        self._counted(standing)
        self._open(once)

    def said(self, annotator: str, standing: Standing) -> None:
        """Every answer."""
        self._counted(standing)

    def ended(self, standing: Standing) -> None:
        """The answers' file and who answered."""
        figures = {"done": standing.done, "total": standing.total, "annotators": dict(standing.annotators)}
        self._lines.finished(f"{standing.done} of {standing.total} images answered", self._path, figures)

    def _counted(self, standing: Standing) -> None:
        share, per_hour = standing.done / standing.total, standing.per_hour
        rate = None if per_hour is None else per_hour / 3600
        self._lines.counted(
            "label", standing.done, standing.total, share=share, rate=rate, seconds_left=standing.left_s
        )


def _user() -> str:
    """Who is likely to answer."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "annotator"


def _has_display() -> bool:
    """Whether a browser would have a window: in a terminal alone, a text browser would take it over."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
