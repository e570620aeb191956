"""What was read: of each set its form, its classes, what its images are like, and what was left out.

A run says so before it begins, and `rambo inspect` says it without a run: a person sees at a glance whether their
data were understood.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rambo_ray.data.decoding import Broken, Seen

_CLASSES, _SIZES, _NAMES = 20, 3, 10  # shown
_MODES = {"L": "grey", "RGB": "colour", "RGBA": "colour with transparency", "P": "palette", "1": "black and white",
          "I;16": "grey of 16 bits", "I;16B": "grey of 16 bits", "I;16L": "grey of 16 bits", "CMYK": "CMYK",
          "LA": "grey with transparency", "I": "grey of 16 bits", "RGB of 16 bits": "colour of 16 bits"}  # fmt: skip


@dataclass
class SetRead:
    """One of the three sets. named: what the configuration calls it; what: images or embeddings, in words.

    classes: how many of each; sizes: (width, height) as stored; skipped: files passed over and unreadable: images
    that cannot be read here, by suffix; broken: images that cannot be read at all. Both are left out, where
    `left_out` says so. paged: images of several pages or frames.
    """

    key: str
    named: str
    form: str
    count: int = 0
    what: str = "images"
    classes: Mapping[str, int] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    broken: list[Broken] = field(default_factory=list)
    left_out: bool = True
    paged: int = 0

    def look_at(self, seen: Seen) -> None:
        """Take over what its images are like."""
        self.sizes, self.modes, self.paged = seen.sizes, seen.modes, seen.paged

    def lines(self) -> list[str]:
        """What there is to say of it, the first line without indentation."""
        made = [f"{self.named}: {self.form}, {self.count:,} {self.what}{self._like()}"]
        out = ", left out" if self.left_out else ""
        if self.classes:
            made.append(f"  {len(self.classes)} classes: {_counted(self.classes)}")
        if self.paged:
            has = "1 image has" if self.paged == 1 else f"{self.paged:,} images have"
            made.append(f"  {has} several pages or frames: the first is read")
        if self.skipped:
            made.append(f"  files passed over: {_counted(self.skipped, first=False)}")
        if self.unreadable:
            made.append(f"  images that cannot be read here{out}: {_counted(self.unreadable, first=False)}")
        if self.broken:
            names = ", ".join(one.name for one in self.broken[:_NAMES])
            more = f" and {len(self.broken) - _NAMES} more" if len(self.broken) > _NAMES else ""
            made.append(f"  broken{out}: {len(self.broken)} ({names}{more})")
        return made

    def _like(self) -> str:
        if not self.sizes:
            return ""
        shown = [f"{width}x{height}" for (width, height), _ in self.sizes.most_common(_SIZES)]
        if len(self.sizes) == 1:
            sizes = f"of {shown[0]} pixels"
        elif len(self.sizes) <= _SIZES:
            sizes = f"of {' and '.join(shown)} pixels"
        else:
            widths, heights = zip(*self.sizes, strict=True)
            sizes = (
                f"of {len(self.sizes)} sizes, {min(widths)}x{min(heights)} to {max(widths)}x{max(heights)} pixels, "
                f"most {shown[0]}"
            )
        modes = Counter[str]()
        for mode, count in self.modes.items():
            modes[_MODES.get(mode, mode)] += count
        kinds = next(iter(modes)) if len(modes) == 1 else ", ".join(f"{n:,} {mode}" for mode, n in modes.most_common())
        return f" {sizes}, {kinds}"

    def as_json(self) -> dict[str, Any]:
        """The same for a file, with all names."""
        return {
            "set": self.key,
            "source": self.named,
            "form": self.form,
            "what": self.what,
            "count": self.count,
            "classes": dict(self.classes),
            "sizes": {f"{width}x{height}": count for (width, height), count in self.sizes.most_common()},
            "modes": dict(self.modes.most_common()),
            "paged": self.paged,
            "skipped": dict(self.skipped.most_common()),
            "unreadable": dict(self.unreadable.most_common()),
            "broken": [{"name": one.name, "problem": one.problem} for one in self.broken],
        }


@dataclass
class Reading:
    """What was read of all sets, and further lines: choices that were made."""

    sets: list[SetRead] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """All of it, for a person."""
        return "\n".join([*(line for one in self.sets for line in one.lines()), *self.notes])

    def as_json(self) -> dict[str, Any]:
        """All of it, for the file data.json of a run."""
        return {"sets": [one.as_json() for one in self.sets], "notes": list(self.notes)}


def _counted(counts: Mapping[str, int], first: bool = True) -> str:
    """Counts by name, or before it; of many the first in their order, and how many more."""
    items = list(counts.items())
    shown = [f"{name} {count:,}" if first else f"{count:,} {name}" for name, count in items[:_CLASSES]]
    rest = items[_CLASSES:]
    return ", ".join(shown) + (f" and {len(rest)} more with {sum(n for _, n in rest):,}" if rest else "")
