"""What all tests share: one torch thread, hypothesis without deadlines, coarse figures, the folder of real data."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from rambo_ray.report import plots

# Ray's workers are nice by default, and starve where other tests run beside them.
os.environ.setdefault("RAY_worker_niceness", "0")
# A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
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


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which need not be installed
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under `-n 2` a file's tests stay in one process, for its fixtures, and so do those that share a Ray.

    These are two halves of about the same length, so that two processes end together; they take longest and begin,
    beside the tests of faults, which kill clusters and processes of their own, one after the other. (--dist loadgroup
    would do, but forms no groups with pytest 9 and xdist 3.8.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneRay(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            folders = Path(file).parent.parts
            if "cluster" in folders:
                return "ray, first half" if Path(file).name < "test_j" else "ray, second half"
            return "faults" if "faults" in folders else file

    if config.getvalue("dist") != "load":
        return None  # somebody wants it otherwise
    config.option.loadscopereorder = False  # as collected, see below
    return OneRay(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In a process of pytest-xdist the tests that need Ray come first, those of faults next."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        order = {"cluster": 0, "faults": 1}
        items.sort(key=lambda item: order.get(item.path.parent.name, 2))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What hostile names a test has logged can be sent to the process of pytest-xdist that collects reports."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


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
