"""What is different in a job that `ray job submit` has started: it runs in a copy of the working directory.

Ray deletes the copy, and what was written there, after the job. Data may be read from it; results must not go there.
"""

from __future__ import annotations

import os
from pathlib import Path

from rambo_ray.errors import UserError

_COPIES = ("runtime_resources", "working_dir_files")  # below a Ray session's folder, wherever that is


def refuse_copy(option: str, folder: str | os.PathLike[str]) -> None:
    """Raise UserError where `folder`, which `option` names, lies in such a copy, as a relative path does."""
    try:
        parts = Path(folder).expanduser().resolve().parts
    except (OSError, RuntimeError):  # that it cannot be, is said by whoever makes it
        return
    if any(parts[i : i + len(_COPIES)] == _COPIES for i in range(len(parts))):
        raise UserError(
            f"{option} {folder}: lies in the job's copy of its working directory, which Ray deletes with all results; "
            "give an absolute path that every node can reach"
        )
