"""One Ray for all tests of this folder, and one finished run: either takes seconds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch

from rambo_ray.cli.run import execute
from rambo_ray.cluster.session import Session, connect
from rambo_ray.config.schema import ClusterConfig

from .problems import smoke

# Actors compute with one thread; what they are compared with must, too, to agree in the last bit.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def session(coarse_figures: None) -> Iterator[Session]:
    assert not ray.is_initialized()
    with connect(ClusterConfig(num_workers=2, address="local")) as connected:
        yield connected


@pytest.fixture(scope="session")
def finished_run(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits' smoke run through the job's own entry.

    Tests read it; one that goes on with it copies it first.
    """
    folder = tmp_path_factory.mktemp("digits") / "run"
    execute(smoke(f"output.dir={folder}"))
    return folder


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> Path:
    """`finished_run` as a test's own."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))
