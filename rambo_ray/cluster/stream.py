"""A pass over a pool that is never in memory as a whole, by Ray Data: read and decode, compute, write parts.

    on GPUs   read (tasks: row groups, decoded) -> map_batches (actors: the network) -> map_batches (tasks: parts)
    on CPUs   numbers of readings -> map_batches (actors: read, decode, network, parts)

A GPU is fed by as many cores as there are. Where the network computes on the cores that decode, an actor does all of
it in turn: no image goes from one process to another. Ray Data keeps as many blocks in flight as its share of the
object store holds and promises no order, so every row carries its place. `read_parquet` does not say which row of a
file a row is; the readings here do, and they are of only what no part has: that is how a pass goes on where it was
interrupted. The driver sees a row for each part.
"""

from __future__ import annotations

import inspect
import logging
import re
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, WorkerCrashedError

from rambo_ray.classifier import prediction
from rambo_ray.cluster import nodes
from rambo_ray.cluster.pool_actors import Computed, Whole
from rambo_ray.cluster.pool_reading import Decoding, Reusing, numbered
from rambo_ray.cluster.session import Session, cause_of, slots
from rambo_ray.cluster.tasks import fetch
from rambo_ray.cluster.waiting import until_room
from rambo_ray.cluster.workers import run_tasks
from rambo_ray.data.pool import parts as parts_of
from rambo_ray.data.pool.files import PoolFiles, Read
from rambo_ray.data.pool.parts import Parts
from rambo_ray.errors import RunError, UserError
from rambo_ray.files import WriteError

# An actor is given so many bytes of images at a time, at least a chunk of f's and at most the rows of a part.
BATCH_BYTES = 32 << 20
# Of Ray's object store, for what is decoded and waits: for each actor.
STORE_BYTES = 8 * BATCH_BYTES

# Rows of a reading that an actor does alone, about: many for each actor, so that all end together.
ROWS_ALONE = 4 * parts_of.ROWS

# A part is written, and the next number handed out, in no time.
_WRITE_CPUS, _NUMBERS_CPUS = 0.1, 0.05

# Of a worker, whatever it computed.
_DEATHS = (RayActorError, WorkerCrashedError, OutOfMemoryError, NodeDiedError)

# The last line of a traceback, and what Ray's own of them say nothing by.
_RAISED = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception)): (.+)$", re.MULTILINE)
_WRAPPERS = ("UserCodeException", "SystemException", "RayTaskError")


def run(
    session: Session,
    pool: PoolFiles,
    parts: Parts,
    computed: type[Computed],
    arguments: Sequence[Any],
    done: Callable[[int], None],
    features: Parts | None = None,
    *,
    apart: bool | None = None,
) -> None:
    """Bring `parts` to hold every row of `pool`; `done` is told of rows, first of those that are there already.

    `computed(*arguments)` is made in each actor. What it is given are images, or `features` that an earlier pass left
    of all of them. apart: whether decoding and computing have processes of their own; default: on GPUs.
    Raises RunError for what failed; what is written until then stays, and is not computed again.
    """
    # Ray Data would wait for room without a word.
    until_room(
        "the pass over the pool",
        session.options,
        lambda: slots(nodes.free(), session.cpus, session.gpus),
        wanted=1,
        enough=1,
    )
    finished, tries = 0, 0  # tries: since something was last written
    while True:
        missing = parts.missing(pool)
        left = sum(int(mask.sum()) for mask in missing.values())
        if len(pool) - left > finished:
            done(len(pool) - left - finished)  # more was written than was heard of
            finished, tries = len(pool) - left, 0
        if not left:
            return
        try:
            tries += 1
            for rows in _passed(session, pool, parts, computed, arguments, missing, features, apart):
                done(rows)
                finished, tries = finished + rows, 0
        except Exception as error:  # Ray Data has several, all meaning that the pass is not done
            kind, said = _reason(error)
            if kind == UserError.__name__:
                raise UserError(f"data.pool: {said}") from error  # a file that a worker could not read
            if kind == WriteError.__name__:
                raise RunError(said) from error  # it says what is finished and what to do
            died = isinstance(error, _DEATHS) or isinstance(error.__cause__, _DEATHS)
            if died and tries < session.config.max_tries:
                continue  # with what is still missing
            what = f"a worker died {tries} times in a row: {said}" if died else said
            raise RunError(
                f"the pass over the pool failed ({what}); what it has done is in {parts.folder}, run the same command "
                "again to continue"
            ) from error
        if tries >= session.config.max_tries:
            raise RunError(f"{parts.folder}: what a pass writes there cannot be read; check the disk, and run again")


def _passed(
    session: Session,
    pool: PoolFiles,
    parts: Parts,
    computed: type[Computed],
    arguments: Sequence[Any],
    missing: Mapping[str, np.ndarray],
    features: Parts | None,
    apart: bool | None,
) -> Iterator[int]:
    """The numbers of rows of parts, as they are written."""
    workers = session.num_workers
    apart = session.device != "cpu" if apart is None else apart
    readings: list[Decoding | Reusing]
    if features is None:
        if apart:
            reads = pool.reads(missing)
        else:
            reads = [part for read in pool.reads(missing, ROWS_ALONE) for part in read.divided(ROWS_ALONE)]
        readings, row_bytes = [Decoding(read) for read in reads], pool.row_bytes
    else:
        readings = [Reusing(*found) for found in features.unread(missing)]
        row_bytes = 4 * features.width
    size = prediction.CHUNK
    rows = max(size, min(parts_of.ROWS // size * size, BATCH_BYTES // row_bytes // size * size))
    with _configured(rows * row_bytes, workers):
        pool_of_actors = ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers)
        if apart:
            dataset = (
                ray.data.read_datasource(
                    _source([one.tables for one in readings], [one.rows for one in readings], row_bytes),
                    override_num_blocks=len(readings),
                    num_cpus=1,
                )
                .map_batches(
                    computed,
                    batch_size=rows,
                    batch_format="pyarrow",
                    compute=pool_of_actors,
                    num_cpus=session.cpus,
                    num_gpus=session.gpus or None,
                    fn_constructor_args=tuple(arguments),
                    **_restarts(session),
                )
                .map_batches(_Writing(parts), batch_size=parts_of.ROWS, batch_format="pyarrow", num_cpus=_WRITE_CPUS)
            )
        else:
            asked = [ray.put(one) for one in readings]
            numbers = [partial(numbered, number) for number in range(len(asked))]
            dataset = ray.data.read_datasource(
                _source(numbers, [1] * len(asked), 8), override_num_blocks=len(asked), num_cpus=_NUMBERS_CPUS
            ).map_batches(
                Whole,
                batch_size=1,
                batch_format="pyarrow",
                compute=pool_of_actors,
                num_cpus=session.cpus - _NUMBERS_CPUS,
                fn_constructor_args=(asked, computed, tuple(arguments), rows, parts),
                **_restarts(session),
            )
        for row in dataset.iter_rows():
            yield int(row["rows"])


def images(session: Session, pool: PoolFiles, positions: np.ndarray) -> np.ndarray:
    """The images uint8 [n, H, W, C], or vectors float32 [n, D], at positions [n], by tasks that read what is needed.

    Raises RunError where a file is not as it was.
    """
    places = {int(position): place for place, position in enumerate(positions.tolist())}
    starts = {file.key: int(start) for file, start in zip(pool.files, pool.starts, strict=True)}
    rows = {file.key: positions[(positions >= start) & (positions < start + file.rows)] - start
            for file, start in zip(pool.files, pool.starts.tolist(), strict=True)}  # fmt: skip
    found = np.empty((len(positions), *pool.shape), dtype=np.uint8 if pool.wanted is not None else np.float32)
    reads = pool.reads(pool.masks(rows))
    task = ray.remote(_rows_of).options(num_cpus=1, max_retries=session.config.max_tries)
    for number, ref in run_tasks(
        deque(range(len(reads))), lambda number: task.remote(reads[number]), session.num_workers, {"num_cpus": 1}
    ):
        key = reads[number].file.key
        for row, pixels in zip(*fetch(ref, "images of the pool"), strict=True):
            found[places[starts[key] + row]] = pixels
    return found


def _rows_of(read: Read) -> tuple[list[int], np.ndarray]:
    parts = list(read.batches())
    return [row for part in parts for row in part.rows.tolist()], np.concatenate([part.array for part in parts])


@dataclass(frozen=True)
class _Writing:
    """Writes a batch as a part, and says how many rows it had."""

    parts: Parts

    def __call__(self, batch: pa.Table) -> pa.Table:
        self.parts.write(batch)
        return pa.table({"rows": [len(batch)]})


def _source(readings: Sequence[Callable[[], Iterable[pa.Table]]], rows: Sequence[int], row_bytes: int) -> Any:
    """The readings as a datasource of Ray Data, a task each, of so many rows."""
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class Pool(Datasource):  # Ray Data names its operators by it
        def estimate_inmemory_data_size(self) -> int | None:
            return sum(rows) * row_bytes

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
            return [
                ReadTask(one, BlockMetadata(num_rows=n, size_bytes=n * row_bytes, input_files=None, exec_stats=None))
                for one, n in zip(readings, rows, strict=True)
            ]

    return Pool()


def _restarts(session: Session) -> dict[str, int]:
    """How often Ray starts a dead actor again: on one machine never, where `run` starts the pass again instead.

    On several it does, as another machine's end should not hold up the rest; Ray then warns of each actor that has
    arguments. Newer versions of Ray decide it themselves.
    """
    parameters = inspect.signature(ray.data.Dataset.map_batches).parameters.values()
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return {}
    tries = session.config.max_tries if session.nodes > 1 else 0
    return {"max_restarts": tries, "max_task_retries": tries}


class _EndsActors:
    """What Ray Data calls back: has an execution end its actors when it ends, however it does.

    Left to itself it forgets them, and after an error a traceback refers to them: they and their CPUs are gone only
    when Python next looks for garbage, which a driver that waits for CPUs may never do.
    """

    def before_execution_starts(self, executor: Any) -> None:
        end = executor.shutdown
        executor.shutdown = lambda force, exception=None: end(True, exception)

    def on_execution_step(self, executor: Any) -> None: ...

    def after_execution_succeeds(self, executor: Any) -> None: ...

    def after_execution_fails(self, executor: Any, error: Exception) -> None: ...


@contextmanager
def _configured(block_bytes: int, actors: int) -> Iterator[None]:
    """Ray Data with our blocks and limits and without its own displays, for what is made and run in the body."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = max(block_bytes, 1 << 20)
    context.execution_options.resource_limits = context.execution_options.resource_limits.copy(
        object_store_memory=float(STORE_BYTES * actors)
    )
    context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, _EndsActors]
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), ray.data.DataContext.current(context):
            warnings.simplefilter("ignore")  # that its parameters for restarts will go
            yield
    finally:
        logger.setLevel(level)


def _reason(error: BaseException) -> tuple[str, str]:
    """The kind of error that ended a pass, and what it says: Ray and Ray Data leave a traceback as text of it."""
    raised = [match for match in _RAISED.findall(str(error)) if match[0] not in _WRAPPERS]
    if not raised:
        return type(error).__name__, cause_of(error)
    kind, said = raised[-1]
    return kind, said if kind in (UserError.__name__, WriteError.__name__) else f"{kind}: {said[:300]}"


def held(*values: Any) -> list[ray.ObjectRef]:
    """Values in the object store, for the arguments of `run`: in a list, so that each actor fetches them itself."""
    return [ray.put(value) for value in values]
