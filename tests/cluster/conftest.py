"""One Ray for all tests of this folder: starting one takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import ray
import torch

from rambo_ray.cluster import fit
from rambo_ray.cluster.session import Session, connect
from rambo_ray.config.schema import ClusterConfig
from rambo_ray.utility_model.fitting import FitInput, FitResult

# Actors compute with one thread; what they are compared with must, too, to agree in the last bit.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def session() -> Iterator[Session]:
    assert not ray.is_initialized()
    with connect(ClusterConfig(num_workers=2, address="local")) as connected:
        yield connected


@pytest.fixture
def fits_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs fit u_hat in this process, with a trainer's bits (test_fit.py) and without its fifteen seconds."""

    def fitted(
        session: Session, task: FitInput, storage: Path, done: Callable[[Mapping[str, float]], None]
    ) -> FitResult:
        return fit.fit_here(task, storage, done)

    monkeypatch.setattr(fit, "fit_on_cluster", fitted)
