"""What all tests share: one torch thread, hypothesis without deadlines, coarse figures, the folder of real data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from rambo_ray.report import plots

# A deadline measures how busy the machine is, not whether the code is right.
settings.register_profile("rambo", deadline=None)
settings.load_profile("rambo")


def pytest_addoption(parser: pytest.Parser) -> None:
    """--data FOLDER: where mnist/, fashion_mnist/, ... lie, for the tests that need real images."""
    parser.addoption(
        "--data",
        default=os.environ.get("RAMBO_DATA"),
        metavar="FOLDER",
        help="folder with the real datasets in Parquet (default: $RAMBO_DATA); without it their tests are skipped",
    )


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist, if it runs the tests, reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What workers of pytest-xdist (--dist loadgroup) must not divide: a file, and all that shares the one Ray.

    The latter is the longest and comes first.
    """
    cluster = Path(__file__).parent / "cluster"
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if cluster in item.path.parents else item.path.stem))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: cluster not in item.path.parents)


@pytest.fixture(scope="session")
def data_root(request: pytest.FixtureRequest) -> Path:
    """The folder of real datasets; skips the test where none was given or it is not there."""
    given = request.config.getoption("--data")
    if given is None:
        pytest.skip("needs real images: give --data FOLDER or set RAMBO_DATA")
    if not Path(given).is_dir():
        pytest.skip(f"needs real images: {given} is not a folder")
    return Path(given)


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Iterator[None]:
    """The same sums in the same order on every machine, and no fight for its cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def coarse_figures() -> Iterator[None]:
    """Pictures of an eighth of the pixels, which a fraction of the time draws; only their size is another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "DPI", plots.DPI // 3)
        yield
