"""What to do with a finished run: commands for its folder, to be copied."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from rambo_ray.report.content import ReportContent
from rambo_ray.report.words import worded


@dataclass(frozen=True)
class Step:
    """What to do, and the commands for it."""

    title: str
    reading: str
    commands: tuple[str, ...]


def steps(content: ReportContent) -> list[Step]:
    """From the picked images to a better classifier, in order."""
    folder, number = content.folder, content.config.round.number + 1
    names = (folder, f"{folder}_tasks.json", f"{folder}_answers.json", f"{folder}_round_{number}")
    run, tasks, answered, after = map(shlex.quote, names)
    answers = "" if content.revealed is None else " --answers revealed"
    made = [
        Step(
            "Have the images labelled",
            "On a page of this machine, with keys for the classes; or by your annotators' tool: label-studio, "
            "cvat, coco, csv, folder.",
            (f"rambo label {run}", f"rambo export {run} --to label-studio --output {tasks}"),
        ),
        Step(
            "Take the labels back",
            "Checks every answer, trains f with them, and writes the labelled images in the form they came in. "
            "Behind the folder stands the file that another tool returned.",
            (f"rambo labels {run}", f"rambo labels {run} {answered}"),
        ),
        Step(
            "If there is another budget, go on",
            "The images labelled in this round are where the next one begins; nothing of this folder is overwritten.",
            (f"rambo run --round {number} --after {run} --output {after}{answers}",),
        ),
    ]
    told = content.things
    return [Step(worded(one.title, told), worded(one.reading, told), one.commands) for one in made]
