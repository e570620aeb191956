"""The numbers of a finished trial on disk, with their checksum."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from rambo_ray.files import make_folder, replacing
from rambo_ray.sweep.trial import Score


def write(score: Score, path: Path) -> None:
    """Write a finished trial's numbers."""
    make_folder(path.parent)
    content = json.dumps(asdict(score))
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({**asdict(score), "sha256": hashlib.sha256(content.encode()).hexdigest()}))


def read(path: Path) -> Score | None:
    """The numbers of a trial that has finished before; None where there are none, or damaged ones: it is tried anew.

    Earlier versions wrote no checksum.
    """
    try:
        content = json.loads(path.read_text())
        digest = content.pop("sha256", None)
        score = Score(**content)
        whole = digest in (None, hashlib.sha256(json.dumps(asdict(score)).encode()).hexdigest())
        return score if whole else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None
