"""Picked items as a grid of pictures for a notebook, and as lines for everything else."""

from __future__ import annotations

import html
import math
from pathlib import Path
from typing import Protocol

import numpy as np

from rambo_ray.data.images import Images
from rambo_ray.data.items import Items
from rambo_ray.report.gallery import SHORT_ID_LETTERS, picture, shortened

MOST_BYTES = 2_000_000  # of a cell's pictures: a notebook with them is a file that somebody keeps


class Shown(Protocol):
    """What is looked at of a `Picked`."""

    @property
    def ids(self) -> tuple[str, ...]: ...
    @property
    def margins(self) -> np.ndarray: ...
    @property
    def items(self) -> Items: ...
    @property
    def verdict(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def report(self) -> Path: ...
    def __len__(self) -> int: ...


def page(picked: Shown, count: int) -> str:
    """A headline, the verdict, and the first `count` items: pictures with their captions, or ids and margins.

    Its own styles only, and no script: it looks the same in any notebook, light or dark.
    """
    tiles, left = [], MOST_BYTES
    for order in range(min(count, len(picked))):
        tile = _tile(picked, order)
        left -= len(tile)
        if left < 0:
            break
        tiles.append(tile)
    more = len(picked) - len(tiles)
    rest = f"<p>and {more:,} more; all of them in <code>{html.escape(str(picked.folder))}</code></p>" if more else ""
    return (
        f"<div><p><b>{len(picked):,} picked</b></p><p>{html.escape(picked.verdict)}</p>"
        f'<div style="display:flex;flex-wrap:wrap;gap:10px;align-items:flex-end">{"".join(tiles)}</div>{rest}</div>'
    )


def text(picked: Shown, count: int) -> str:
    """The same without pictures: the verdict, a line for each item, where the report is."""
    shown = min(count, len(picked))
    lines = [f"{len(picked):,} picked. {picked.verdict}"]
    width = max((len(name) for name in picked.ids[:shown]), default=0)
    for order in range(shown):
        lines.append(f"  {order:>4}  {picked.ids[order]:<{width}}  margin {_decimals(picked.margins[order])}")
    if len(picked) > shown:
        lines.append(f"  and {len(picked) - shown:,} more")
    lines.append(f"  report: {picked.report}")
    return "\n".join(lines) + "\n"


def _tile(picked: Shown, order: int) -> str:
    name = html.escape(shortened(picked.ids[order], SHORT_ID_LETTERS))
    full = html.escape(picked.ids[order], quote=True)
    drawn = ""
    if isinstance(picked.items, Images):
        source, width, height, smooth = picture(picked.items.pixels[order])
        style = "" if smooth else ' style="image-rendering:pixelated"'
        drawn = f'<img src="{source}" width="{width}" height="{height}" alt="{full}"{style}><br>'
    margin = _decimals(picked.margins[order])
    return (
        f'<figure style="margin:0;text-align:center;font-size:11px" title="{full}">{drawn}'
        f"<figcaption>{order}: {name}<br>margin {margin}</figcaption></figure>"
    )


def _decimals(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"
