"""`rambo export`: a finished run's request in the form of the annotators' tool."""

from __future__ import annotations

import argparse

from rambo_ray.annotation import exported, request
from rambo_ray.annotation.exported import Reach
from rambo_ray.cli.entry import shown

_NEXT = {
    "label-studio": "set labelling.xml as the project's labelling interface (Code), then import tasks.json",
    "cvat": "paste labels.json into Labels, Raw; add the images and manifest.jsonl, sorting method Predefined",
    "coco": "import images.json with the images",
    "csv": "fill in the column label",
    "folder": "move each image into the folder of its class",
}
_SERVED = (
    "Label Studio reads files from its own machine where it is started with "
    "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/, and the project has a "
    "local storage of that folder"
)


def called(parsed: argparse.Namespace) -> int:
    """The command `export`; returns its exit code."""
    asked = request.read(parsed.run)
    with shown(parsed, 5.0) as stages:
        copied = stages.progress(len(asked.ids), label="images")
        reach = Reach(parsed.url_prefix, parsed.images)
        files = exported.write(asked, parsed.to, parsed.output, reach, copied.advance)
        if copied.done:
            copied.close()
        lines = [f"{len(asked.ids)} images to annotate, in the order picked, of {len(asked.class_names)} classes"]
        lines += [f"  {file}" for file in files]
        lines.append(f"next: {_NEXT[parsed.to]}")
        if parsed.to == "label-studio" and parsed.url_prefix is None:
            lines.append(_SERVED)
        lines.append(f"then: rambo labels {parsed.run} FILE, with what comes back")
        stages.finish("\n".join(lines), files[0], {"images": len(asked.ids)})
    return 0
