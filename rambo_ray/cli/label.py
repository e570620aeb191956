"""`rambo label`: a page on this machine, on which people say what the picked images are."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import threading
import time
import webbrowser

from rambo_ray.annotation import request, serving
from rambo_ray.annotation.desk import Refused, Standing, check_name
from rambo_ray.annotation.server import ANY, LOOPBACK
from rambo_ray.errors import UserError
from rambo_ray.progress import duration

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
    teller = Teller(
        parsed.folder, asked.folder.resolve().name, parsed.share, parsed.host, browser=not parsed.no_browser
    )
    standing = serving.serve(
        asked,
        teller,
        annotator=annotator,
        share=parsed.share,
        host=parsed.host,
        port=parsed.port,
    )
    teller.ended(standing)
    return 0


class Teller(serving.Listener):
    """What a person at the terminal is told."""

    def __init__(self, given: str, title: str, share: str, host: str, *, browser: bool) -> None:
        """given: the folder as it was typed."""
        self._given, self._title, self._share, self._host, self._browser = given, title, share, host, browser
        self._in_place, self._last, self._width = sys.stdout.isatty(), 0.0, 0

    def opened(self, address: str, once: str, standing: Standing, torn: str | None) -> None:
        """Where the page is and how far the work is."""
        total = standing.total
        print(
            f"{self._title}: {total} images to label" + (f", {standing.done} of them answered" if standing.done else "")
        )
        if torn is not None:
            print(
                f"labels.jsonl: its last line, cut off by a crash before its annotator was told so, is dropped: {torn}"
            )
        shared = "annotators share the images" if self._share == "split" else "every annotator sees every image"
        print(f"open  {address}")
        if self._host in ANY:
            print("      (from other machines: their name for this one instead of 127.0.0.1)")
        if self._host not in LOOPBACK:
            print(
                f"      (--host {self._host}: unencrypted, and whoever has the address can see the images and answer)"
            )
        print(f"      ({shared}; each answer is on the disk before the next image; Ctrl+C ends it)", flush=True)
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


def _user() -> str:
    """Who is likely to answer."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "annotator"


def _has_display() -> bool:
    """Whether a browser would have a window: in a terminal alone, a text browser would take it over."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
