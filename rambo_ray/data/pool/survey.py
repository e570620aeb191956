"""What is kept of a pass of f over a pool: the smallest margins, a sample, and counts; never a number for each image.

The C smallest margins are all that a step of RAMBO can look at. Equal margins go by the images' content, and copies
of one image by their ids: no file's place among the others decides anything. Of exact copies one is a candidate.

N images in the pool, C candidates, n of a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from rambo_ray.data.pool.files import PoolFiles
from rambo_ray.data.pool.parts import Parts
from rambo_ray.errors import UserError

BINS = 1000  # of the margins, from 0 to 1
SAMPLE = 2000  # images that stand for the pool where the report looks at it
SORTED_AT_ONCE = 1 << 24  # digests, of 8 bytes each
FIRST_ERRORS = 5

COLUMNS = ("id", "digest", "mark", "error", "unlike", "margin")


@dataclass(frozen=True)
class Found:
    """Images of the pool: positions int64 [n], ids, digests, margins float32 [n]."""

    positions: np.ndarray
    ids: tuple[str, ...]
    digests: tuple[bytes, ...]
    margins: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class Survey:
    """What a pass found.

    count: N, of images that can be read; candidates: the C smallest margins, smallest first; sample: images drawn by
    their content, in the order of it; histogram: how many margins are in each of BINS bins from 0 to 1; copies:
    images that are an exact copy of another; skipped: images that could not be read; fingerprint: SHA-256 (hex) of
    the pool's content and ids, whatever their order.
    """

    count: int
    candidates: Found
    sample: Found
    histogram: np.ndarray
    copies: int
    skipped: int
    fingerprint: str

    @property
    def sentence(self) -> str:
        """What it comes to, in a line."""
        skipped = f", {self.skipped:,} cannot be read and are left out" if self.skipped else ""
        return (
            f"{self.count:,} images passed over: {self.copies:,} exact copies{skipped}; the {len(self.candidates):,} "
            f"with the smallest margins and {len(self.sample):,} drawn at random stay in memory"
        )

    @cached_property
    def kept(self) -> Found:
        """Candidates and sample, each image once, in the order of the candidates."""
        rows: dict[int, tuple[float, bytes, tuple[int, str]]] = {}  # by position
        for part in (self.candidates, self.sample):
            columns = zip(part.positions.tolist(), part.margins.tolist(), part.digests, part.ids, strict=True)
            rows.update({position: (margin, digest, natural(name)) for position, margin, digest, name in columns})
        order = sorted(rows, key=lambda position: (*rows[position], position))
        return Found(
            np.array(order, dtype=np.int64),
            tuple(rows[position][2][1] for position in order),
            tuple(rows[position][1] for position in order),
            np.array([rows[position][0] for position in order], dtype=np.float32),
        )

    @cached_property
    def sampled(self) -> np.ndarray:
        """Places of the sample among `kept`, int64, in their order."""
        return np.flatnonzero(np.isin(self.kept.positions, self.sample.positions))

    def margin_of(self, rank: int) -> float:
        """About the margin that `rank` images are below, to a bin."""
        return float(np.searchsorted(np.cumsum(self.histogram), rank) + 1) / BINS


def survey(
    pool: PoolFiles,
    parts: Parts,
    candidates: int,
    known: Mapping[bytes, str],
    on_error: str = "fail",
    once: bool = True,
) -> Survey:
    """What the `parts` of a whole pass say, of which `candidates` are kept.

    once: whether of exact copies one alone is a candidate. known: digests of the images of S_0 and S_val, and the key
    of the set that each is in. Raises UserError for an image that is in one of these, too, for images unlike the others
    and, unless `on_error` is "skip", for images that cannot be read.
    """
    smallest, sample = _Smallest(candidates, once), _Smallest(SAMPLE, True, by_margin=False)
    histogram = np.zeros(BINS, dtype=np.int64)
    sums, count = np.zeros(3, dtype=np.uint64), 0
    errors: list[str] = []
    failed, odd = 0, 0
    shared: dict[str, list[str]] = {}
    known_high = np.array([_halves(pa.array([digest], pa.binary(16)))[0, 0] for digest in known], dtype=np.uint64)
    for positions, table in parts.tables(pool, COLUMNS):
        wrong = table.column("error").is_valid().to_numpy(zero_copy_only=False)
        if wrong.any():
            failed += int(wrong.sum())
            odd += int(table.column("unlike").to_numpy(zero_copy_only=False).sum())
            errors += [error for error in table.column("error").to_pylist() if error is not None]
            errors = sorted(errors)[:FIRST_ERRORS]
            positions, table = positions[~wrong], table.filter(pa.array(~wrong))
        batch = _Batch(positions, table)
        count += len(positions)
        histogram += np.histogram(batch.margins, BINS, (0.0, 1.0))[0]
        marks = table.column("mark").to_numpy().astype(np.uint64)
        sums += np.array([marks.sum(), batch.high.sum(), batch.low.sum()], dtype=np.uint64)
        for place in np.flatnonzero(np.isin(batch.high, known_high)).tolist():
            if (part := known.get(batch.digest(place))) is not None:
                shared.setdefault(part, []).append(batch.id(place))
        smallest.add(batch)
        sample.add(batch)
    if failed and (odd or on_error != "skip"):
        more = f", and {failed - len(errors)} more" if failed > len(errors) else ""
        remedy = "; replace or remove them, or data.on_error=skip goes without them" if not odd else ""
        raise UserError(
            f"data.pool: {failed} of its {len(pool)} images cannot be used: {'; '.join(errors)}{more}{remedy}"
        )
    for part, ids in shared.items():
        raise UserError(
            f"data.pool: {len(ids)} of its images are also in data.{part} (first: '{min(ids, key=natural)}'), must be "
            "none; remove them from data.pool"
        )
    digest = hashlib.sha256(repr((count, pool.shape)).encode() + sums.astype("<u8").tobytes())
    return Survey(
        count=count,
        candidates=smallest.found(),
        sample=sample.found(),
        histogram=histogram,
        copies=count - _distinct(pool, parts),
        skipped=failed,
        fingerprint=digest.hexdigest(),
    )


def natural(name: str) -> tuple[int, str]:
    """Orders ids so that p7 comes before p12."""
    return len(name), name


def draw(pool: PoolFiles, parts: Parts, count: int, column: str) -> np.ndarray:
    """`column` [n, F] of about `count` images of the pool, drawn by their content, in its order; of fewer all.

    Images that could not be read are left out, and of copies there is one.
    """
    limit = np.uint64(min(count / max(len(pool), 1), 1.0) * float(2**64 - 2**12))
    highs, lows, values = [], [], []
    for _, table in parts.tables(pool, ["digest", "error", column]):
        halves = _halves(table.column("digest").combine_chunks())
        chosen = np.flatnonzero((halves[:, 0] <= limit) & table.column("error").is_null().to_numpy())
        rows = table.column(column).combine_chunks().take(pa.array(chosen))
        values.append(rows.flatten().to_numpy().reshape(len(chosen), rows.type.list_size))
        highs.append(halves[chosen, 0])
        lows.append(halves[chosen, 1])
    high, low, drawn = (np.concatenate(each) for each in (highs, lows, values))
    order = np.lexsort((low, high))
    first = np.ones(len(order), dtype=bool)
    first[1:] = (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
    return drawn[order[first]]


@dataclass
class _Batch:
    """n rows of a part; high and low: the halves of digests as numbers, in their order."""

    positions: np.ndarray
    table: pa.Table
    high: np.ndarray = field(init=False)
    low: np.ndarray = field(init=False)
    margins: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        halves = _halves(self.table.column("digest").combine_chunks())
        self.high, self.low = halves[:, 0], halves[:, 1]
        self.margins = self.table.column("margin").to_numpy()

    def digest(self, place: int) -> bytes:
        found: bytes = self.table.column("digest")[place].as_py()
        return found

    def id(self, place: int) -> str:
        """The image's id; where the pool has none, its position."""
        return self.table.column("id")[place].as_py() or str(self.positions[place])


Row = tuple[float, bytes, tuple[int, str], int]  # margin (0 by content alone), digest, id in its order, position


class _Smallest:
    """The `count` distinct images whose margins are smallest, or, by content alone, whose digests are."""

    def __init__(self, count: int, once: bool, by_margin: bool = True) -> None:
        self.count, self.once, self.by_margin = count, once, by_margin
        self.rows: list[tuple[Row, float]] = []
        self.waiting: list[tuple[Row, float]] = []
        self.margin, self.high = np.inf, np.uint64(2**64 - 1)  # beyond which nothing is kept

    def add(self, batch: _Batch) -> None:
        """Look at a batch."""
        within = batch.margins <= self.margin if self.by_margin else batch.high <= self.high
        for place in np.flatnonzero(within).tolist():
            margin = float(batch.margins[place])
            row = (
                margin if self.by_margin else 0.0,
                batch.digest(place),
                natural(batch.id(place)),
                int(batch.positions[place]),
            )
            self.waiting.append((row, margin))
        if len(self.waiting) >= self.count:
            self._settle()

    def found(self) -> Found:
        """Those, smallest first."""
        self._settle()
        rows = [row for row, _ in self.rows]
        return Found(
            np.array([row[3] for row in rows], dtype=np.int64),
            tuple(row[2][1] for row in rows),
            tuple(row[1] for row in rows),
            np.array([margin for _, margin in self.rows], dtype=np.float32),
        )

    def _settle(self) -> None:
        kept: list[tuple[Row, float]] = []
        for row in sorted(self.rows + self.waiting):
            if not (self.once and kept and kept[-1][0][1] == row[0][1]):  # a copy follows its original
                kept.append(row)
                if len(kept) == self.count:
                    break
        self.rows, self.waiting = kept, []
        if len(kept) == self.count:
            last = kept[-1][0]
            self.margin, self.high = last[0], np.uint64(int.from_bytes(last[1][:8], "big"))


def _halves(digests: pa.Array) -> np.ndarray:
    """Digests [n] as uint64 [n, 2], which are ordered as the bytes are."""
    start, size = digests.offset * 16, len(digests) * 16
    if not size:
        return np.zeros((0, 2), dtype=np.uint64)
    return (
        np.frombuffer(digests.buffers()[1], dtype=">u8", count=size // 8, offset=start).astype(np.uint64).reshape(-1, 2)
    )


def _distinct(pool: PoolFiles, parts: Parts) -> int:
    """How many different contents there are: counted in as many passes as keep few digests in memory."""
    passes = -(-len(pool) // SORTED_AT_ONCE)
    edges = np.linspace(0, 2**64 - 1, passes + 1)
    found = 0
    for number in range(passes):
        held = []
        for high in _highs(pool, parts):
            within = np.ones(len(high), dtype=bool)
            if number:
                within &= high >= np.uint64(edges[number])
            if number < passes - 1:
                within &= high < np.uint64(edges[number + 1])
            held.append(high[within])
        found += len(np.unique(np.concatenate(held))) if held else 0
    return found


def _highs(pool: PoolFiles, parts: Parts) -> Iterator[np.ndarray]:
    for _, table in parts.tables(pool, ["digest", "error"]):
        readable = table.column("error").is_null().to_numpy()
        yield _halves(table.column("digest").combine_chunks())[readable, 0]


def known_digests(sets: Mapping[str, Collection[bytes]]) -> dict[bytes, str]:
    """For each digest of the sets' images the key of the set that it is in."""
    return {digest: key for key, digests in sets.items() for digest in digests}
