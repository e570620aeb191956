"""What a run picked, for a program and for a notebook."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from rambo_ray.api import grid
from rambo_ray.config.schema import Config
from rambo_ray.data.items import Items
from rambo_ray.errors import UserError
from rambo_ray.files import WriteError, replacing
from rambo_ray.report.reading import Judgement

if TYPE_CHECKING:
    import pandas

SHOWN = 24  # pictures of a notebook's cell that nobody has asked for a number


@dataclass(frozen=True, eq=False, repr=False)
class Picked:
    """The B items to annotate, in the order picked; every array is [B].

    ids: the pool's own, or its row numbers; indices: rows of the pool that was given, int64; steps: in which step
    of the acquisition; margins: of the classifier, in [0, 1]; scores: u_hat's of the batch that an item came in, NaN
    where the run followed the margin filter. pool_margins: margins of the whole pool that was given, [N], NaN of
    what was no candidate, such as copies. metrics: what metrics.json holds; folder: where all files of the run
    are. Iterating gives the ids, `len` gives B.
    """

    ids: tuple[str, ...]
    indices: np.ndarray
    steps: np.ndarray
    margins: np.ndarray
    scores: np.ndarray
    pool_margins: np.ndarray
    metrics: Mapping[str, Any]
    config: Config
    folder: Path
    items: Items
    _kept: tempfile.TemporaryDirectory[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    @property
    def followed(self) -> bool:
        """Whether u_hat chose; False: it ranked no better than chance, and the margin filter did."""
        return bool(self.metrics.get("u_hat_followed", False))

    @property
    def verdict(self) -> str:
        """How u_hat ranks held-out sets beside chance, and whether the run followed it, in words."""
        if "ranking" not in self.metrics:
            return f"Picked by the strategy {self.config.acquisition.strategy} alone (acquisition.strategy)."
        if not self.metrics["ranking"]["held_out_subsets"]:
            return "Nothing was held out to judge u_hat by (utility_samples.num_held_out=0)."
        return Judgement.of(self.metrics, self.config).sentence("u_hat")

    @property
    def report(self) -> Path:
        """The run's report, one page of HTML."""
        return self.folder / "report.html"

    def to_table(self) -> pa.Table:
        """Columns id, pool_index, order, step, margin, utility, as in selection.parquet."""
        return pa.table(
            {
                "id": pa.array(self.ids, pa.string()),
                "pool_index": pa.array(self.indices, pa.int64()),
                "order": pa.array(np.arange(len(self)), pa.int32()),
                "step": pa.array(self.steps, pa.int32()),
                "margin": pa.array(self.margins, pa.float32()),
                "utility": pa.array(self.scores, pa.float32()),
            }
        )

    def to_pandas(self) -> pandas.DataFrame:
        """The same as a data frame. Raises UserError where pandas is not installed."""
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise UserError("to_pandas: pandas is not installed; pip install pandas, or take to_table()") from error
        return self.to_table().to_pandas()

    def to_parquet(self, path: str | Path) -> Path:
        """Write the table as Parquet; returns the path."""
        return self._written(path, lambda table, file: pq.write_table(table, file))

    def to_csv(self, path: str | Path) -> Path:
        """Write the table as CSV; returns the path."""
        return self._written(path, lambda table, file: pyarrow.csv.write_csv(table, file))

    def show(self, count: int = SHOWN) -> None:
        """Show the first `count` of them: pictures in a notebook, elsewhere lines and where the report is."""
        if _in_notebook():
            from IPython.display import HTML, display

            display(HTML(grid.page(self, count)))
        else:
            sys.stdout.write(grid.text(self, count))

    def _repr_html_(self) -> str:
        return grid.page(self, SHOWN)

    def __repr__(self) -> str:
        return f"<{len(self)} picked, by {'u_hat' if self.followed else 'the margin filter'}, in {self.folder}>"

    def __str__(self) -> str:
        return grid.text(self, 5)

    def _written(self, path: str | Path, write: Any) -> Path:
        target = Path(path).expanduser()
        if not target.parent.is_dir():
            raise UserError(f"{target}: there is no folder {target.parent}; make it, or give another path")
        try:
            with replacing(target) as temporary:
                write(self.to_table(), temporary)
        except WriteError as error:
            raise UserError(f"{target}: {error.reason}; give a path you can write to") from error
        return target


def _in_notebook() -> bool:
    """Whether this process is a kernel, which can show HTML."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})
