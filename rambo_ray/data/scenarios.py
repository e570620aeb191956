"""Pools as they really are: long-tailed, half of it beside the point, or full of near-copies.

A benchmark's images are chosen by hand, so a random part of them is clean and balanced. Each scenario makes
another pool of the same images. S_0 is drawn from the same distribution as the pool, as the team could only
label what it had; S_val and the test images stay clean and balanced, as they say what f is for.

Everything follows from the split's seed, in integers only, so that a scenario is the same on every machine.

k images in S_0, V in S_val, N in the pool, R rejected; K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rambo_ray import seeds
from rambo_ray.config.schema import DataConfig
from rambo_ray.data.images import Images, LabeledImages, Pixels
from rambo_ray.data.items import Integers
from rambo_ray.data.problem import NONE, Normalisation, Problem, Revealed, assembled, check_k
from rambo_ray.errors import UserError

# How far a near-copy is from its original, as frames of one video are from each other.
SHIFT = 20  # moved by at most 1 / SHIFT of the side along each axis: 1 pixel of 28, 2 of 32, none of 8
CONTRAST, BRIGHTNESS, NOISE = 10, 12, 6  # at most: percent; levels of 255; levels, of each pixel on its own
_CHUNK = 1024  # near-copies made at a time


@dataclass(frozen=True, eq=False)
class _Population:
    """What S_0 and the pool are drawn from: images, and their labels int64, NONE where they belong to no class."""

    images: Images
    labels: Integers


def divide(
    dataset: LabeledImages,
    test: LabeledImages | None,
    class_names: tuple[str, ...],
    data: DataConfig,
    seed: int,
    normalisation: Normalisation | None,
) -> tuple[Problem, Revealed]:
    """One labelled dataset and its test images as the problem of `data.scenario`, and what is revealed of it.

    S_val is taken first, as evenly over the classes as V allows. Of what is left a population is made, as
    large as the counts of the classes allow:

    - long_tail: class c of K, counted in an order drawn anew for each seed, is imbalance^(-c / (K - 1))
      times as frequent as the first;
    - off_target: `target_classes` of the classes, drawn anew for each seed, keep their images and are
      numbered again in their order; images of the others make up `off_target_share`, with label NONE;
    - duplicates: as many images as are left, but `duplicate_share` of them are near-copies (`near_copies`), so
      many of each of a few images; the originals are there, too.

    Its images come in a random order. S_0 is the first k that belong to a class, `Problem.rejected` those met
    on the way that belong to none, the pool the rest, at most data.pool_limit. A class may be missing from S_0.
    Of the test images as many stay of each class as the rarest has. `normalisation` None: S_0's own. Raises
    UserError where `data` asks for more than there is, or S_0 came out with a single class.
    """
    generator = seeds.generator(seed, "scenario")
    targets = np.arange(len(class_names))
    if data.scenario == "off_target":
        if data.target_classes >= len(class_names):
            raise UserError(
                f"data.target_classes={data.target_classes}: must be below {len(class_names)}, the number of classes, "
                "so that images of some belong to none; lower it"
            )
        targets = np.sort(generator.permutation(len(class_names))[: data.target_classes])
    names = tuple(class_names[c] for c in targets)
    check_k(data.num_labeled, len(names))

    # Labels among the targets; what belongs to no class keeps its place in the dataset.
    number = np.full(len(class_names), NONE)
    number[targets] = np.arange(len(targets))
    labels = number[dataset.labels]
    chosen, left = _balanced(labels, names, data.num_validation, generator)
    if data.scenario == "long_tail":
        population = _taken(dataset, labels, _long_tailed(labels[left], names, data.imbalance, left, generator))
    elif data.scenario == "off_target":
        population = _taken(dataset, labels, _mixed(labels[left], data.off_target_share, left, generator))
    else:
        population = _with_copies(dataset, left, data, generator)

    order = generator.permutation(len(population.labels))
    on_target = np.flatnonzero(population.labels[order] != NONE)
    if len(on_target) <= data.num_labeled:
        raise UserError(
            f"data.num_labeled={data.num_labeled}, data.scenario={data.scenario}: must leave a pool, but the scenario "
            f"leaves {len(on_target)} images for S_0 and the pool; lower data.num_labeled or data.num_validation"
        )
    end = on_target[data.num_labeled - 1] + 1
    seen, pool = order[:end], order[end:][: data.pool_limit]
    known = seen[population.labels[seen] != NONE]
    refused = seen[population.labels[seen] == NONE]
    problem = assembled(
        _labeled(population.images.take(known), population.labels[known]),
        _labeled(dataset.take(chosen).unlabeled(), labels[chosen]),
        population.images.take(pool),
        names,
        normalisation,
        population.images.take(refused) if len(refused) else None,
    )
    return problem, Revealed(population.labels[pool], None if test is None else _even(test, number))


def describe(data: DataConfig) -> str:
    """The scenario in a few words, such as "scenario long_tail 50:1"."""
    if data.scenario == "long_tail":
        return f"scenario long_tail {data.imbalance:g}:1"
    if data.scenario == "off_target":
        share = f"{100 * data.off_target_share:g} % of the pool belong to none of {data.target_classes} classes"
        return f"scenario off_target, {share}"
    if data.scenario == "duplicates":
        return f"scenario duplicates, {100 * data.duplicate_share:g} % of the pool near-copies, {data.copies} of a kind"
    return "scenario clean"


def near_copies(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """A near-copy of each of pixels uint8 [n, H, W, C], as another frame of the same scene would be.

    Moved by up to a 20th of the side along each axis (the border is repeated), contrast about the middle grey
    changed by up to 10 percent, brightness by up to 12 levels, and each value on its own by up to 6 levels.
    """
    n, height, width, _ = pixels.shape
    moved = []
    for side in (height, width):
        most = round(side / SHIFT)
        shifts = generator.integers(-most, most + 1, n)
        moved.append(np.clip(np.arange(side) + shifts[:, None], 0, side - 1))
    made = pixels[np.arange(n)[:, None, None], moved[0][:, :, None], moved[1][:, None, :]].astype(np.int32)
    contrast = generator.integers(100 - CONTRAST, 100 + CONTRAST + 1, (n, 1, 1, 1))
    brightness = generator.integers(-BRIGHTNESS, BRIGHTNESS + 1, (n, 1, 1, 1))
    noise = generator.integers(-NOISE, NOISE + 1, made.shape, dtype=np.int8)
    made = 128 + (made - 128) * contrast // 100 + brightness + noise
    return np.clip(made, 0, 255).astype(np.uint8)


def _balanced(
    labels: Integers, names: tuple[str, ...], count: int, generator: np.random.Generator
) -> tuple[Integers, Integers]:
    """`count` positions as even over the classes as can be, drawn at random, and those left, in order."""
    each, rest = divmod(count, len(names))
    wanted = np.full(len(names), each)
    wanted[generator.permutation(len(names))[:rest]] += 1
    chosen = []
    for label, name in enumerate(names):
        members = generator.permutation(np.flatnonzero(labels == label))
        if len(members) < wanted[label]:
            raise UserError(
                f"data.num_validation={count}: a balanced S_val takes {wanted[label]} images of each of {len(names)} "
                f"classes, but '{name}' has {len(members)}; set data.num_validation={len(members) * len(names)} or less"
            )
        chosen.append(members[: wanted[label]])
    drawn = generator.permutation(np.concatenate(chosen))
    return drawn, np.setdiff1d(np.arange(len(labels)), drawn, assume_unique=True)


def _long_tailed(
    labels: Integers, names: tuple[str, ...], imbalance: float, left: Integers, generator: np.random.Generator
) -> Integers:
    """Positions, of those `left`, whose labels [len(left)] have the frequencies of `long_tail_counts`."""
    rank = generator.permutation(len(names))
    counts = long_tail_counts(np.bincount(labels, minlength=len(names)), rank, imbalance)
    if counts.min() < 1:
        name = names[int(counts.argmin())]
        raise UserError(
            f"data.imbalance={imbalance:g}: leaves no image of '{name}', of which there are "
            f"{np.sum(labels == counts.argmin())} beside S_val; lower data.imbalance or data.num_validation"
        )
    drawn = [generator.permutation(left[labels == c])[: counts[c]] for c in range(len(names))]
    return np.concatenate(drawn)


def long_tail_counts(available: Integers, rank: Integers, imbalance: float) -> Integers:
    """How many images of each class there can be at most, [K], in proportion to imbalance^(-rank / (K - 1)).

    available [K]: how many there are; rank [K]: place of the class, 0 is the most frequent. The class that is
    scarcest for its share sets the size; counts are rounded to the nearest.
    """
    share = float(imbalance) ** (-rank / (len(rank) - 1))
    counts: Integers = np.rint((available / share).min() * share).astype(np.int64)
    return np.minimum(counts, available)


def _mixed(labels: Integers, share: float, left: Integers, generator: np.random.Generator) -> Integers:
    """Positions, of those `left`, so that `share` of their labels [len(left)] are NONE."""
    of_class, of_none = (generator.permutation(left[found]) for found in (labels != NONE, labels == NONE))
    size = min(len(of_class) / (1 - share), len(of_none) / share)
    junk = round(size * share)
    return np.concatenate([of_class[: round(size) - junk], of_none[:junk]])


def _with_copies(
    dataset: LabeledImages, left: Integers, data: DataConfig, generator: np.random.Generator
) -> _Population:
    """As many images as are `left`, of which `duplicate_share` are `copies` near-copies each of some of the others."""
    groups = int(data.duplicate_share * len(left) / data.copies)
    made = groups * data.copies
    if groups < 1 or groups > len(left) - made:
        rule = (
            f"must be at most {int(data.duplicate_share * len(left))}, the near-copies that {len(left)} images allow"
            if groups < 1
            else f"leaves {len(left) - made} originals to have them, and {groups} are needed"
        )
        raise UserError(
            f"data.copies={data.copies}: {rule} with data.duplicate_share={data.duplicate_share:g}; "
            f"{'lower' if groups < 1 else 'raise'} data.copies"
        )
    kept = generator.permutation(left)[: len(left) - made]
    sources = np.repeat(kept[:groups], data.copies)  # the others have no near-copies
    copies = [
        near_copies(dataset.pixels[sources[start : start + _CHUNK]], generator)
        for start in range(0, len(sources), _CHUNK)
    ]
    ids = (*(dataset.ids[i] for i in kept),
           *(f"{dataset.ids[i]} (near-copy {j % data.copies + 1})" for j, i in enumerate(sources)))  # fmt: skip
    pixels = np.concatenate([dataset.pixels[kept], *copies])
    return _Population(Images(pixels, ids), dataset.labels[np.concatenate([kept, sources])])


def _taken(dataset: LabeledImages, labels: Integers, positions: Integers) -> _Population:
    return _Population(dataset.take(positions).unlabeled(), labels[positions])


def _labeled(images: Images, labels: Integers) -> LabeledImages:
    return LabeledImages(images.pixels, images.ids, labels)


def _even(test: LabeledImages, number: Integers) -> LabeledImages:
    """Of each class that has a `number` [K] the first images, as many as the rarest has, in the dataset's order."""
    labels = number[test.labels]
    counts = np.bincount(labels[labels != NONE], minlength=number.max() + 1)
    kept = [np.flatnonzero(labels == label)[: counts.min()] for label in range(len(counts))]
    positions = np.sort(np.concatenate(kept))
    return _labeled(test.take(positions).unlabeled(), labels[positions])
