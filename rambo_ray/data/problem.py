"""The problem RAMBO is given, and what it is not told.

`Problem` is all that the selection may see: S_0, S_val and the pool U_0 without labels. What only
an evaluation may see, the pool's labels and the test images, is kept apart in `Revealed`, so that
no part of the selection can read it by accident.

k images in S_0, V in S_val, N in the pool; H x W x C a single image; K classes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from rambo_ray import seeds
from rambo_ray.data.copies import Copies
from rambo_ray.data.images import Images, LabeledImages, Pixels
from rambo_ray.data.items import Integers, Items
from rambo_ray.data.pool.files import PoolFiles
from rambo_ray.data.pool.survey import Survey
from rambo_ray.data.vectors import LabeledVectors, Vectors
from rambo_ray.errors import UserError

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
Labeled = LabeledImages | LabeledVectors

# One grey level of 255: a channel that never changes is then divided by this instead of by zero.
STD_FLOOR = 1 / 255

# What annotators answer for an image that belongs to none of the classes.
NONE = -1


@dataclass(frozen=True)
class LabeledArrays:
    """What f sees of images, and their labels int64 [N]; possibly read-only and shared between processes.

    inputs: pixels uint8 [N, H, W, C], or embeddings float32 [N, D] where f is a head on them.
    """

    inputs: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, items: Labeled) -> LabeledArrays:
        """The arrays of labelled images or vectors, without their ids."""
        return cls(items.array, items.labels)

    def joined(self, inputs: np.ndarray, labels: np.ndarray) -> LabeledArrays:
        """These images and then others: S_1, when they are S_0 and what was acquired.

        Others of label NONE are left out: they cost an annotation and teach f nothing.
        """
        kept = labels != NONE
        return LabeledArrays(np.concatenate([self.inputs, inputs[kept]]), np.concatenate([self.labels, labels[kept]]))


@dataclass(frozen=True, eq=False)
class Problem:
    """What one-round active learning starts from.

    `labeled` is S_0 [k], `validation` S_val [V], `pool` U_0 [N]; labels are positions in
    `class_names` [K]. All of them are images of one shape, or all vectors of D numbers. `mean` and `std` have one
    number per channel and belong to pixels / 255; vectors have none.
    streamed: the files of a pool too large for memory; `pool` is empty then, until a pass of f over them has left its
    `survey`: from there on it holds what the survey keeps, in its order.
    `rejected` [R] are of the pool's kind, and annotators have said already that they belong to
    none of the classes. copies: which images of the pool were left out as copies of those that `pool` holds, None
    where none were. Raises ValueError where these do not fit together.
    """

    labeled: Labeled
    validation: Labeled
    pool: Items
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rejected: Items | None = None
    copies: Copies | None = None
    streamed: PoolFiles | None = None
    survey: Survey | None = None

    def __post_init__(self) -> None:
        for part, items in self._parts:
            if not len(items) and not (part == "pool" and self.streamed is not None):
                raise ValueError(f"{part} is empty")
        for part, items in [*self._parts, *([] if self.rejected is None else [("rejected", self.rejected)])]:
            if isinstance(items, Vectors) != isinstance(self.labeled, Vectors):
                raise ValueError(f"{part}: {type(items).__name__}, but labeled: {type(self.labeled).__name__}")
            if items.array.shape[1:] != self.shape:
                raise ValueError(f"{part}: {items.described}, but labeled: {self.labeled.described}")
        if hasattr(self.pool, "labels"):
            raise ValueError("the pool must come without labels; pass pool.unlabeled()")
        if len(set(self.class_names)) != len(self.class_names) or len(self.class_names) < 2:
            raise ValueError(f"class_names {self.class_names}: must be at least 2 distinct names")
        classes = len(self.class_names)
        for part, labels in (("labeled", self.labeled.labels), ("validation", self.validation.labels)):
            if labels.max() >= classes:
                raise ValueError(f"{part}: label {labels.max()}, but there are {classes} classes")
        channels = 0 if self.of_vectors else self.shape[2]
        if not len(self.mean) == len(self.std) == channels or min(self.std, default=1.0) <= 0:
            raise ValueError(f"mean {self.mean}, std {self.std}: must be {channels} numbers, std above 0")

    @property
    def _parts(self) -> list[tuple[str, Items]]:
        return [("labeled", self.labeled), ("validation", self.validation), ("pool", self.pool)]

    @property
    def of_vectors(self) -> bool:
        """Whether S_0, S_val and the pool are embeddings that were given, not images."""
        return isinstance(self.labeled, Vectors)

    @property
    def num_pool(self) -> int:
        """How many images the pool has, those that were left out included, in memory or not."""
        if self.survey is not None:
            return self.survey.count
        if self.streamed is not None:
            return len(self.streamed)
        return len(self.pool) if self.copies is None else len(self.copies.of)

    @property
    def num_left(self) -> int:
        """The same without those that were left out, which are not known yet where the pool is not in memory."""
        return len(self.pool) if self.streamed is None else self.num_pool

    @property
    def positions(self) -> Integers:
        """Where the images of `pool` are in the whole pool, int64."""
        if self.survey is not None:
            return self.survey.kept.positions
        return np.arange(len(self.pool)) if self.copies is None else self.copies.kept

    @property
    def sampled(self) -> Integers:
        """Positions in `pool` of images that stand for the whole pool: all, where it is in memory."""
        return np.arange(len(self.pool)) if self.survey is None else self.survey.sampled

    @property
    def shape(self) -> tuple[int, ...]:
        """H, W, C of every image, or D of every vector."""
        return tuple(self.labeled.array.shape[1:])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all a utility sample depends on: S_0, S_val, what was rejected, classes, normalisation.

        The order of S_0 counts, since a sample is a set of positions in it; ids do not.
        """
        numbers = np.array([*self.mean, *self.std], np.float64)
        parts: list[bytes | memoryview] = [repr(self.class_names).encode(), numbers.tobytes()]
        for items in (self.labeled, self.validation):
            parts += [repr(items.array.shape).encode(), items.array.data]
            parts += [items.labels.astype("<i8").tobytes()]
        if self.rejected is not None:
            parts += [repr(self.rejected.array.shape).encode(), self.rejected.array.data]
        return _sha256(parts)

    @cached_property
    def pool_fingerprint(self) -> str:
        """SHA-256 (hex) of the pool: its images or vectors, and its ids, in order.

        Of one that is streamed that of the survey, which goes by content, too, or, before, of which files they are.
        """
        if self.survey is not None:
            return self.survey.fingerprint
        if self.streamed is not None:
            return self.streamed.fingerprint
        array = self.pool.array
        return _sha256([repr(array.shape).encode(), array.data, repr(self.pool.ids).encode()])

    @property
    def given_fingerprint(self) -> str:
        """The same of the pool as its owner gave it, with its copies."""
        return self.pool_fingerprint if self.copies is None else self.copies.fingerprint


@dataclass(frozen=True, eq=False)
class Revealed:
    """What the annotators would answer: `pool_labels` int64 [N] (or NONE), and a test set where there is any."""

    pool_labels: Integers
    test: Labeled | None


@dataclass(frozen=True, eq=False)
class Inputs:
    """What f sees of a problem: pixels uint8 [., H, W, C], or embeddings float32 [., D] (`LabeledArrays`).

    rejected has no rows where nothing was rejected; test is None where there is no test set.
    """

    labeled: np.ndarray
    validation: np.ndarray
    rejected: np.ndarray
    pool: np.ndarray
    test: np.ndarray | None

    @classmethod
    def as_given(cls, problem: Problem, revealed: Revealed | None) -> Inputs:
        """The images or vectors themselves."""
        return cls(
            labeled=problem.labeled.array,
            validation=problem.validation.array,
            rejected=problem.labeled.array[:0] if problem.rejected is None else problem.rejected.array,
            pool=problem.pool.array,
            test=None if revealed is None or revealed.test is None else revealed.test.array,
        )


class Split(NamedTuple):
    """Positions int64 in one labelled dataset; no position is in two of them."""

    labeled: Integers
    validation: Integers
    pool: Integers


def split(count: int, *, num_labeled: int, num_validation: int, pool_limit: int | None = None, seed: int = 0) -> Split:
    """Divide `count` images at random into S_0, S_val and U_0.

    One uniform permutation is cut in three, so the parts are disjoint, and a smaller `pool_limit`
    gives a prefix of the larger pool. Raises UserError where nothing is left for the pool.
    """
    if num_labeled + num_validation >= count:
        raise UserError(
            f"data.num_labeled={num_labeled}, data.num_validation={num_validation}: must leave a pool, but "
            f"there are only {count} images; lower them to a sum below {count}"
        )
    order = seeds.generator(seed, "split").permutation(count).astype(np.int64)
    end = num_labeled + num_validation
    return Split(order[:num_labeled], order[num_labeled:end], order[end:][:pool_limit])


def divide(
    dataset: LabeledImages,
    class_names: tuple[str, ...],
    *,
    num_labeled: int,
    num_validation: int,
    pool_limit: int | None = None,
    seed: int = 0,
    normalisation: Normalisation | None = None,
) -> tuple[Problem, Integers]:
    """One labelled dataset as a problem, and the labels [N] of its pool.

    The paper draws S_0 at random, so a class may be missing from it: f keeps an output for that
    class and never learns it. `normalisation` None: S_0's own. Raises UserError where k is below
    the number of classes, where S_0 came out with a single class, and as `split` does.
    """
    check_k(num_labeled, len(class_names))
    parts = split(
        len(dataset), num_labeled=num_labeled, num_validation=num_validation, pool_limit=pool_limit, seed=seed
    )
    pool = dataset.take(parts.pool)
    labeled, validation = dataset.take(parts.labeled), dataset.take(parts.validation)
    return assembled(labeled, validation, pool.unlabeled(), class_names, normalisation), pool.labels


def check_k(num_labeled: int, num_classes: int) -> None:
    """Raise UserError where S_0 could not hold an image of each class."""
    if num_labeled < num_classes:
        raise UserError(
            f"data.num_labeled={num_labeled}: must be at least {num_classes}, the number of classes; "
            f"set data.num_labeled={num_classes} or more"
        )


def assembled(
    labeled: LabeledImages,
    validation: LabeledImages,
    pool: Images,
    class_names: tuple[str, ...],
    normalisation: Normalisation | None,
    rejected: Images | None = None,
) -> Problem:
    """The parts of a divided dataset as a problem. Raises UserError where S_0 came out with a single class."""
    if len(np.unique(labeled.labels)) < 2:
        only = class_names[labeled.labels[0]]
        raise UserError(
            f"data.num_labeled={len(labeled)}: S_0 came out all '{only}', must hold at least 2 classes; "
            "raise data.num_labeled or change data.split_seed"
        )
    mean, std = normalisation or statistics(labeled.pixels)
    return Problem(labeled, validation, pool, class_names, mean, std, rejected)


def statistics(pixels: Pixels) -> Normalisation:
    """Mean and standard deviation per channel of pixels [N, H, W, C] / 255; std at least STD_FLOOR.

    Computed in integers as far as possible, so that the result is the same on every machine.
    """
    values = np.arange(256)
    mean, std = [], []
    for channel in range(pixels.shape[3]):
        counts = np.bincount(pixels[..., channel].ravel(), minlength=256)
        n, total, squares = int(counts.sum()), int(counts @ values), int(counts @ values**2)
        mean.append(total / n / 255)
        std.append(max(math.sqrt(n * squares - total**2) / n / 255, STD_FLOOR))
    return tuple(mean), tuple(std)


def check_overlap(
    labeled: Items, validation: Items | None, pool: Items, same_ids: frozenset[str] = frozenset()
) -> None:
    """Raise UserError where an image, or a vector, stands in two of S_0, S_val and U_0.

    An image is the same where its pixels are. Its id counts only between the parts named in
    `same_ids` ("labeled", "validation", "pool"), whose ids were given by their owner; the id of a
    file is its place in a folder, and other folders have their own cat/0001.png. The same image
    twice within one part is allowed.
    """
    parts: dict[str, Items] = {"labeled": labeled, "pool": pool}
    if validation is not None:
        parts["validation"] = validation
    digests = {part: items.digests() for part, items in parts.items()}
    what = "embeddings" if isinstance(labeled, Vectors) else "images"
    for first, second in (("labeled", "validation"), ("labeled", "pool"), ("validation", "pool")):
        if first not in parts or second not in parts:
            continue
        ids = parts[second].ids
        earlier = set(digests[first])
        shared = [ids[i] for i, digest in enumerate(digests[second]) if digest in earlier]
        _refuse(first, second, what, shared)
        if {first, second} <= same_ids:
            known = set(parts[first].ids)
            _refuse(first, second, "ids", [name for name in ids if name in known])


def _refuse(first: str, second: str, what: str, shared: list[str]) -> None:
    if shared:
        raise UserError(
            f"data.{second}: {len(shared)} of its {what} are also in data.{first} (first: '{shared[0]}'), "
            f"must be none; remove them from data.{second}"
        )


def _sha256(parts: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
