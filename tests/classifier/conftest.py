"""Trainings that no CPU's rounding decides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from rambo_ray.classifier import mnist_steps, training


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trainings in double precision, with autograd.

    Two ways to compute the same differ by rounding. Adam's first steps turn a gradient that is 0 but for
    rounding into a step of full length, up or down, and epochs make much of little: in float32 what a
    CPU's products happen to round to would say how far apart the two end.
    """
    monkeypatch.setattr(mnist_steps, "applies", lambda *_: False)
    monkeypatch.setattr(training, "image_type", lambda settings: torch.float64)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
