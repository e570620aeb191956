"""Sinkhorn potentials at their fixed point: where a full update no longer moves them.

Plain iteration needs thousands of passes when the cost is hundreds of times the regularisation.
The same fixed point is the maximum of a concave function of one potential alone (the other one is
its exact softmin), and Newton's method finds it in a few passes per temperature when every
temperature starts from the solution of a higher one.

Letters: n <= m samples on the two sides, uniform weights 1/n and 1/m; e is a temperature, D the
value of the dual problem; units of potentials, e and tolerances are cost units.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from rambo_ray.errors import RunError

from .classes import Floats
from .sinkhorn import SLAB, self_update

# How the path to the regularisation is walked. None of these changes the result, only the number
# of passes; the values are the best of a small search on digits and FashionMNIST subsets.
_START = 16.0  # first temperature: largest cost / this
_RATIO = 3.0  # between temperatures
_STAGE = 0.03  # marginal error, summed, at which a temperature before the last one is done
_LONGEST_STEP = 25.0  # of a potential, in temperatures
_DAMPING = 1e-3
_MORE_DAMPING, _LESS_DAMPING, _MOST_DAMPING = 20.0, 8.0, 1e15
# Smaller terms are raised to exp(-80): invisible beside a sum of at least exp(-25), and their
# products stay clear of denormal numbers, which are slow.
_LOWEST = -80.0


class ConvergenceError(RunError):
    """The iteration limit was reached before the potentials stood still."""


def converged(cost: Floats, entreg: float, tolerance: float, max_iterations: int) -> tuple[Floats, Floats]:
    """Potentials f [n], g [m] of `cost` [n, m] at the fixed point of step 3's update at `entreg`.

    They are accepted when a full update of either moves no entry by more than `tolerance` (or by
    more than rounding does: 16 units in the last place of the largest cost). Raises
    `ConvergenceError` when `max_iterations` Newton steps were not enough.
    """
    if cost.shape[0] > cost.shape[1]:
        g, f = converged(np.ascontiguousarray(cost.T), entreg, tolerance, max_iterations)
        return f, g
    largest = float(cost.max())
    floor = max(tolerance, 16 * np.finfo(float).eps * largest)
    steps = max(0, int(np.ceil(np.log(max(largest, entreg) / _START / entreg) / np.log(_RATIO))))
    path = _Path(cost, max_iterations)
    for k in range(steps, 0, -1):
        path.descend(entreg * _RATIO**k, stop=None)
    path.descend(entreg, stop=floor)
    return path.f, path.g


class _Path:
    """The pair (f, g) on its way down the temperatures; g is always the softmin of f."""

    def __init__(self, cost: Floats, max_iterations: int) -> None:
        n, m = cost.shape
        self.f: Floats = np.zeros(n)
        self.g: Floats = cost.min(0)
        self._cost, self._left, self._limit = cost, max_iterations, max_iterations
        self._a, self._b = np.full(n, 1 / n), np.full(m, 1 / m)
        self._kernel = np.empty((n, m))
        step = max(1, SLAB // m)
        self._slabs = [slice(i, i + step) for i in range(0, n, step)]

    def descend(self, e: float, stop: float | None) -> None:
        """Newton steps at temperature e until the last row update would move f by less than `stop`.

        With stop=None, until the row marginals are off by less than a few per cent in sum.
        """
        damping = 0.0
        g, columns, rows = self._softmin(self.f, e)
        self.g, value = g, self._value(self.f, g)
        while True:
            moved = e * float(np.abs(np.log(rows / self._a)).max())
            error = self._a - rows
            if (np.abs(error).sum() < _STAGE) if stop is None else (moved < stop):
                return
            if self._left <= 0:
                raise ConvergenceError(
                    f"converged solver: potentials still move by {moved:.2g} after max_iterations="
                    f"{self._limit} steps; raise max_iterations, tolerance or entreg"
                )
            self._left -= 1
            hessian = self._hessian(columns, rows)
            while True:
                if damping > _MOST_DAMPING:
                    raise ConvergenceError(
                        f"converged solver: no step improves the potentials at temperature {e:.2g} and costs "
                        f"up to {self._cost.max():.2g}; raise entreg or scale the features down"
                    )
                step = self._step(hessian, e * error, damping)
                if step is None or np.abs(step).max() > _LONGEST_STEP * e:
                    damping = max(damping * _MORE_DAMPING, _DAMPING / 10)
                    continue
                f = self.f + step
                g, columns, rows = self._softmin(f, e)
                gain, promised = self._value(f, g) - value, float(error @ step)
                if gain >= 0.05 * promised - 1e-12 * abs(value):
                    break
                damping = max(damping * _MORE_DAMPING, _DAMPING)
            if gain > 0.3 * promised:
                damping = damping / _LESS_DAMPING if damping > 1e-5 else 0.0
            self.f, self.g, value = f, g, value + gain

    def _softmin(self, f: Floats, e: float) -> tuple[Floats, Floats, Floats]:
        """The exact g for this f, the kernel's column sums [m], and the row marginals [n].

        The kernel is taken relative to the g at hand, which is close enough to keep it in range.
        """
        for slab in self._slabs:
            kernel = self._kernel[slab]
            np.subtract(self.g, self._cost[slab], out=kernel)
            kernel += f[slab, None]
            kernel *= 1 / e
            np.maximum(kernel, _LOWEST, out=kernel)
            np.exp(kernel, out=kernel)
        columns = self._a @ self._kernel
        rows = self._a * (self._kernel @ (self._b / columns))
        return self.g - e * np.log(columns), columns, rows

    def _value(self, f: Floats, g: Floats) -> float:
        return float(self._a @ f + self._b @ g)

    def _hessian(self, columns: Floats, rows: Floats) -> Floats:
        """e times the negative second derivative of D, [n, n], made definite.

        Adding a constant to f changes nothing (g takes it back); the term rows x rows pins that
        direction and leaves all others as they are. Uses up the kernel, which the next point renews.
        """
        self._kernel *= self._a[0] * np.sqrt(self._b) / columns
        hessian = self._kernel @ self._kernel.T
        np.negative(hessian, out=hessian)
        hessian += np.outer(rows, rows)
        hessian.flat[:: len(rows) + 1] += rows
        return hessian

    def _step(self, hessian: Floats, right: Floats, damping: float) -> Floats | None:
        """Solve (hessian + damping * diag(a)) step = right; None where rounding made it indefinite."""
        damped = hessian.copy()
        damped.flat[:: len(right) + 1] += damping * self._a + 1e-15
        # The matrix is symmetric, so its transpose is the column-major layout LAPACK wants.
        _, step, info = lapack.dposv(damped.T, right, lower=1, overwrite_a=1)
        return step if info == 0 else None


def converged_self(cost: Floats, entreg: float, tolerance: float, max_iterations: int) -> Floats:
    """Potential p [n] of the symmetric `cost` [n, n] at the fixed point at `entreg`.

    Averaging the update with the old potential halves the error each time where the kernel is
    positive definite, so plain iteration is enough. Raises `ConvergenceError` after
    `max_iterations` updates.
    """
    n = len(cost)
    floor = max(tolerance, 16 * np.finfo(float).eps * float(cost.max()))
    batch, weights, e = cost[None], np.full((1, n), 1 / n), np.array([entreg])
    p = np.zeros((1, n))
    for _ in range(max_iterations):
        p_new = self_update(batch, p, weights, e)
        moved = float(np.abs(p_new - p).max())
        p = (p + p_new) / 2
        if moved < floor:
            return p[0]
    raise ConvergenceError(
        f"converged solver, self term: the potential still moves by {moved:.2g} after max_iterations="
        f"{max_iterations} updates; raise max_iterations, tolerance or entreg"
    )
