"""One Ray for all tests of this folder: starting one takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray
import torch

from rambo_ray.cluster.session import Session, connect
from rambo_ray.config import ClusterConfig

# Actors compute with one thread; what they are compared with must, too, to agree in the last bit.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def session() -> Iterator[Session]:
    assert not ray.is_initialized()
    with connect(ClusterConfig(num_workers=2, address="local")) as connected:
        yield connected
