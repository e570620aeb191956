"""The annealed symmetric Sinkhorn loop: step 3 of the definition, for many problems at once.

A dual potential is a price in cost units. The loop starts at a temperature as high as the squared
diameter of the data, divides it by four until the regularisation is reached, and makes one
averaged update of both potentials at each temperature: a fixed, small number of updates, not a
converged solution (`newton` has that).

Letters: P problems of n x m samples, T temperatures. Weights may be 0 on padding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .classes import Floats

# Terms below exp(-690) are raised to it: denormal numbers slow the matrix products down tenfold.
# Sums that could notice (below 1e-250) are taken again relative to their largest term.
_LOWEST = -690.0
_SMALLEST_SUM = 1e-250
# Elements worked on at a time; half a megabyte stays in a core's second-level cache.
SLAB = 65536


def temperatures(scale: Floats, entreg: float) -> tuple[Floats, NDArray[np.bool_]]:
    """[P] start scales d -> temperatures [T, P] and whether each is part of its problem's schedule.

    A schedule is d^2, then d^2 / 4^k for k = 0, 1, ... while above `entreg`, then `entreg`.
    Shorter schedules are filled up with `entreg` and marked false there.
    """
    # Scale 0 means that all points coincide and all costs are 0: any temperature gives 0.
    start = np.where(scale > 0, scale**2, entreg)
    lengths = np.zeros(scale.shape, int)
    e = start.copy()
    while (above := e > entreg).any():
        lengths += above
        e = e / 4
    step = np.arange(lengths.max() + 2)[:, None]
    values = np.where(step == 0, start, start * 0.25 ** np.maximum(step - 1.0, 0.0))
    values = np.where((step > 0) & (step > lengths), entreg, values)
    return values, step <= lengths + 1


def annealed(cost: Floats, a: Floats, b: Floats, scale: Floats, entreg: float) -> tuple[Floats, Floats]:
    """Potentials f [P, n], g [P, m] of `cost` [P, n, m] after the fixed schedule (step 3).

    `a` [P, n], `b` [P, m] are the weights, `scale` [P] the start scales d.
    """
    values, active = temperatures(scale, entreg)
    f, g = _updates(cost, np.zeros(a.shape), np.zeros(b.shape), a, b, values[0])
    for e, on in zip(values, active, strict=True):
        f_new, g_new = _updates(cost, f, g, a, b, e)
        f = np.where(on[:, None], (f + f_new) / 2, f)
        g = np.where(on[:, None], (g + g_new) / 2, g)
    return _updates(cost, f, g, a, b, values[-1])


def annealed_self(cost: Floats, a: Floats, scale: Floats, entreg: float) -> Floats:
    """Potential p [P, n] of a symmetric problem `cost` [P, n, n] after the fixed schedule (step 3)."""
    values, active = temperatures(scale, entreg)
    p = self_update(cost, np.zeros(a.shape), a, values[0])
    for e, on in zip(values, active, strict=True):
        p = np.where(on[:, None], (p + self_update(cost, p, a, e)) / 2, p)
    return self_update(cost, p, a, values[-1])


def self_update(cost: Floats, p: Floats, a: Floats, e: Floats) -> Floats:
    """One full update of a symmetric problem's potential at temperatures e [P]."""
    rows = np.empty(p.shape)
    for where, kernel in _kernel(cost, p, p, e):
        problems, _ = where
        rows[where] = (kernel @ a[problems][:, :, None])[..., 0]
    if not _sound(rows):
        return _softmin(cost, p, a, e)
    return p - e[:, None] * np.log(rows)


def _updates(cost: Floats, f: Floats, g: Floats, a: Floats, b: Floats, e: Floats) -> tuple[Floats, Floats]:
    """Both full updates from the old pair (f, g), out of one pass of exponentials.

    With K = exp((f + g - cost) / e) the updates are f - e log K b and g - e log a K: near the
    solution K b and a K are near 1, which is what makes the direct exponential safe.
    """
    rows, columns = np.empty(f.shape), np.zeros(g.shape)
    for where, kernel in _kernel(cost, f, g, e):
        problems, _ = where
        rows[where] = (kernel @ b[problems][:, :, None])[..., 0]
        columns[problems] += (a[where][:, None, :] @ kernel)[:, 0]
    if not (_sound(rows) and _sound(columns)):
        return _softmin(cost, g, b, e), _softmin(cost.transpose(0, 2, 1), f, a, e)
    return f - e[:, None] * np.log(rows), g - e[:, None] * np.log(columns)


def _kernel(cost: Floats, f: Floats, g: Floats, e: Floats) -> Iterator[tuple[tuple[slice, slice], Floats]]:
    """exp((f + g - cost) / e) in slabs: (problems, rows) and the slab's values, valid until the next."""
    problems, n, m = cost.shape
    if problems > 1 and n * m <= SLAB:
        step = max(1, SLAB // (n * m))
        slabs = [(slice(i, i + step), slice(None)) for i in range(0, problems, step)]
    else:
        step = max(1, SLAB // m)
        slabs = [(slice(p, p + 1), slice(i, i + step)) for p in range(problems) for i in range(0, n, step)]
    buffer = np.empty(cost[slabs[0]].shape)
    inverse = (1.0 / e)[:, None, None]
    for where in slabs:
        block = cost[where]
        kernel = buffer[: block.shape[0], : block.shape[1]]
        np.subtract(g[where[0], None, :], block, out=kernel)
        kernel += f[where][:, :, None]
        kernel *= inverse[where[0]]
        np.maximum(kernel, _LOWEST, out=kernel)
        with np.errstate(over="ignore"):
            np.exp(kernel, out=kernel)
        yield where, kernel


def _sound(sums: Floats) -> bool:
    return bool(sums.min() > _SMALLEST_SUM and sums.max() < np.inf)


def _softmin(cost: Floats, h: Floats, weights: Floats, e: Floats) -> Floats:
    """-e log sum_j w_j exp((h_j - cost_ij) / e), each sum relative to its largest term."""
    z = (h[:, None, :] - cost) / e[:, None, None]
    z = np.where(weights[:, None, :] > 0, z, -np.inf)
    top = z.max(2)
    sums = (np.exp(z - top[:, :, None]) @ weights[:, :, None])[..., 0]
    return -e[:, None] * (top + np.log(sums))
