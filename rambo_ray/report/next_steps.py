"""What to do with a finished run: commands for its folder, to be copied."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from rambo_ray.report.content import ReportContent


@dataclass(frozen=True)
class Step:
    """What to do, and the commands for it."""

    title: str
    reading: str
    commands: tuple[str, ...]


def steps(content: ReportContent) -> list[Step]:
    """From the picked images to a better classifier, in order."""
    folder = shlex.quote(content.folder)
    return [
        Step(
            "Have the images labelled",
            "On a page of this machine, with keys for the classes; or by the tool that your annotators know.",
            (f"rambo label {folder}", f"rambo export {folder} --to label-studio --output tasks.json"),
        ),
        Step(
            "Take the labels back",
            "Checks every answer, trains f with them, and writes the labelled images in the form they came in.",
            (f"rambo labels {folder}",),
        ),
        Step(
            "If there is another budget, go on",
            "The labelled images of this round are where the next one begins; nothing of this folder is overwritten.",
            (f"rambo run --round 2 --after {folder}",),
        ),
    ]
