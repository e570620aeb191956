"""What the things of a pool are called: images, or items where they are embeddings of who knows what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_IMAGE = re.compile(r"(?<![\w.:/-])(I|i)mage(s?)(?![\w:/-])")


def things(metrics: Mapping[str, Any]) -> str:
    """The word for those of a run, by its metrics.json."""
    return "items" if metrics.get("content") == "embeddings" else "images"


def worded(text: str, things: str) -> str:
    """A text of ours, in which there is no word of a user's, with that word in place of "images"."""
    return text if things == "images" else _IMAGE.sub(lambda m: ("Item" if m[1] == "I" else "item") + m[2], text)
