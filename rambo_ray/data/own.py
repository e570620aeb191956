"""data.name=own: S_0, S_val and U_0 are three sets of one's own, in whatever form, and nothing is revealed.

Everything that is wrong is told to `complain`, which raises for a run and collects for `rambo inspect`: what can
still be looked at after a fault is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rambo_ray.config.schema import DataConfig
from rambo_ray.data import depths, shares
from rambo_ray.data.decoding import Decoded, Seen, decode_all, refusal, reshape
from rambo_ray.data.forms import kinds, opening
from rambo_ray.data.forms.source import Source
from rambo_ray.data.images import Format, Images, LabeledImages, describe
from rambo_ray.data.items import Integers, Items
from rambo_ray.data.labels import Labels, check_two_classes, translated, without
from rambo_ray.data.pool import staying
from rambo_ray.data.pool.files import PoolFiles
from rambo_ray.data.problem import Labeled, Problem, check_overlap, statistics
from rambo_ray.data.reading import Reading, SetRead
from rambo_ray.data.vectors import LabeledVectors, Vectors
from rambo_ray.errors import UserError

Complain = Callable[[UserError], None]
KEYS = ("labeled", "validation", "pool")
NOBODY = np.zeros(0, np.int64)


def raising(error: UserError) -> None:
    """Complain as a run does."""
    raise error


@dataclass
class _Set:
    """One of the three while it is read."""

    key: str
    source: Source
    said: SetRead
    labels: Labels | None = None
    decoded: Decoded | None = None
    items: Items | None = None
    streamed: PoolFiles | None = None


def read(
    data: DataConfig, seed: int, complain: Complain = raising, streams: bool = False
) -> tuple[Problem | None, Reading]:
    """The problem of one's own sets, and what was read; None where `complain` was told that there is none.

    streams: whether the pool may stay in its files, where data.stream says so.

    `seed` draws S_val where it is a share of the labelled images and data.split_seed is null.
    """
    reading = Reading()
    sets = {key: made for key in KEYS if (made := _opened(key, data, complain)) is not None}
    reading.sets = [one.said for one in sets.values()]
    complaints = 0

    def told(error: UserError) -> None:
        nonlocal complaints
        complaints += 1
        complain(error)

    for one in sets.values():
        _unreadable(one, data, told)
        if one.key != "pool":
            _labelled(one, data, told)
    if (s_0 := sets.get("labeled")) is not None and s_0.labels is not None:
        try:
            _classes(s_0, sets.get("validation"), data)  # before anything is decoded, which takes long
        except UserError as error:
            told(error)
    if len({one.source.content == "embeddings" for one in sets.values()}) > 1:
        told(_unlike(sets))
        return None, reading
    _filled(sets, data, told, reading, streams)
    expected = {key for key in KEYS if getattr(data, key) is not None}
    if complaints or set(sets) != expected or any(one.items is None for one in sets.values()):
        return None, reading
    try:
        return _problem(sets, data, seed, reading), reading
    except UserError as error:
        told(error)
        return None, reading


def _opened(key: str, data: DataConfig, complain: Complain) -> _Set | None:
    if getattr(data, key) is None:
        return None
    try:
        source = opening.source(key, data)
        said = SetRead(key, source.named, source.form, len(source), skipped=source.skipped)
        said.left_out = data.on_error == "skip"
    except UserError as error:
        complain(_naming(key, error))
        return None
    said.unreadable = source.unreadable
    return _Set(key, source, said)


def _unreadable(one: _Set, data: DataConfig, complain: Complain) -> None:
    source = one.source
    if source.unreadable and (data.on_error == "fail" or not len(source)):
        extra = f"{kinds.EXTRA}, " if any(end in kinds.SOME for end in source.unreadable) else "convert them, "
        complain(
            UserError(
                f"{source.named}: {sum(source.unreadable.values()):,} of its images cannot be read here "
                f"({kinds.listed(source.unreadable)}); {extra}or data.on_error=skip goes without them"
            )
        )


def _labelled(one: _Set, data: DataConfig, complain: Complain) -> None:
    try:
        one.labels = one.source.labels() if len(one.source) else None
    except UserError as error:
        complain(_naming(one.key, error))
    if one.labels is not None:
        counts = np.bincount(one.labels.codes, minlength=len(one.labels.names))
        one.said.classes = {name: int(n) for name, n in zip(one.labels.names, counts, strict=True) if n}


def _classes(s_0: _Set, s_val: _Set | None, data: DataConfig) -> tuple[Labels, Labels | None, Integers, Integers]:
    """The labels of S_0 and S_val among the classes of S_0, and where those of none of them are, in each."""
    assert s_0.labels is not None
    classes, validating, rejected, of_validation = s_0.labels, None, NOBODY, NOBODY
    if data.none_label is not None:
        classes, rejected = without(classes, data.none_label, s_0.source.named)
    check_two_classes(classes.codes[classes.codes >= 0], s_0.source.named, "label images of other classes too")
    if s_val is not None and s_val.labels is not None:
        # Numbers are positions among all that S_0 declares.
        codes = translated(s_val.labels, s_0.labels, s_val.source.named, s_0.source.named)
        validating = replace(s_0.labels, codes=codes)
        if data.none_label is not None:
            validating, of_validation = without(validating, data.none_label, s_0.source.named)
    return classes, validating, rejected, of_validation


def _unlike(sets: dict[str, _Set]) -> UserError:
    said = ", ".join(f"{one.source.named} holds {one.source.content}" for one in sets.values())
    return UserError(f"{said}; must be images in all sets, or embeddings in all")


def _filled(sets: dict[str, _Set], data: DataConfig, complain: Complain, reading: Reading, streams: bool) -> None:
    """Read the images or embeddings of each set, and their ids."""
    total = sum(len(one.source) for one in sets.values())
    wanted = Format(data.image_size, data.channels, bits=data.bit_depth or 16)
    for one in sets.values():
        if not len(one.source):
            continue
        try:
            if one.key == "pool" and streams and _stays(one, sets, wanted, data):
                continue
            counted = total if one.key == "pool" or not streams else len(one.source)  # the pool may stay
            wanted = _read(one, wanted, counted, data)
        except UserError as error:
            complain(_naming(one.key, error))
    seen = {one.source.named: one.decoded.seen for one in sets.values() if one.decoded is not None}
    try:
        bits, note = depths.settle(seen, data.bit_depth)
    except UserError as error:
        complain(error)
        bits, note = wanted.bits, None
    if note is not None:
        reading.notes.append(note)
    for one in sets.values():
        if one.decoded is None:
            continue
        if bits != wanted.bits and one.decoded.seen.deep >= 0:  # now that it is known
            one.decoded = decode_all(one.source.encoded(), len(one.source), replace(wanted, bits=bits), total)
        _checked(one, data, complain)
    for one in sets.values():
        if one.items is None and one.decoded is not None and one.decoded.seen.odd is None:
            try:
                kept = one.decoded.kept
                ids = one.source.ids()
                one.items = Images(one.decoded.pixels, tuple(ids[i] for i in kept))
            except UserError as error:
                complain(_naming(one.key, error))
    vectors = [one for one in sets.values() if isinstance(one.items, Vectors)]
    for one in vectors[1:]:
        if one.streamed is None and one.said.what != vectors[0].said.what:
            complain(
                UserError(
                    f"{one.source.named}: {one.said.what}, but {vectors[0].source.named}: {vectors[0].said.what}; give "
                    "embeddings of one encoder in all sets"
                )
            )


def _stays(one: _Set, sets: dict[str, _Set], wanted: Format, data: DataConfig) -> bool:
    """Whether the pool stays in its files; then the set has them, and no items."""
    if (s_0 := sets.get("labeled")) is None or (s_0.items is None and wanted.like is None):
        return False
    of_images = wanted.like is not None
    shape = wanted.like[1] if wanted.like is not None else tuple(s_0.items.array.shape[1:])  # type: ignore[union-attr]
    others = [each for each in sets.values() if each.key != "pool"]
    seen = {each.source.named: each.decoded.seen for each in others if each.decoded is not None}

    def known() -> list[str]:
        return [name for each in others if each.source.ids_are_shared for name in each.source.ids()]

    one.streamed = staying.streamed(one.source, data, shape, wanted, seen, known)
    if one.streamed is None:
        return False
    one.items = Images(np.zeros((0, *shape), np.uint8), ()) if of_images else s_0.items.take([])  # type: ignore[union-attr]
    one.said.what = f"{'images' if of_images else 'embeddings'}, streamed from {one.streamed.described}"
    return True


def _read(one: _Set, wanted: Format, total: int, data: DataConfig) -> Format:
    """Decode a set, or take its array; returns what the next one must be like."""
    source = one.source
    if source.content == "embeddings":
        vectors = source.array()
        one.items = Vectors(vectors, source.ids())
        one.said.what = f"embeddings of {one.items.described}"
        return wanted
    if source.content == "images":
        one.decoded = decode_all(source.encoded(), len(source), wanted, total)
    else:
        one.decoded = _of_pixels(source, wanted)
    one.said.look_at(one.decoded.seen)
    if wanted.like is None and len(one.decoded.kept):
        _, height, width, channels = one.decoded.pixels.shape
        return replace(wanted, like=(source.named, (height, width, channels)))
    return wanted


def _of_pixels(source: Source, wanted: Format) -> Decoded:
    stored = source.array()
    _, height, width, channels = stored.shape
    seen = Seen(Counter({(width, height): len(stored)}), Counter({"L" if channels == 1 else "RGB": len(stored)}))
    pixels = reshape(stored, wanted)
    _, height, width, channels = pixels.shape
    if wanted.like is not None and (height, width, channels) != wanted.like[1]:
        raise UserError(
            f"{source.named}: {describe((height, width, channels))}, but {wanted.like[0]} has "
            f"{describe(wanted.like[1])}; set data.image_size={max(wanted.like[1][:2])} to resize, or data.channels"
        )
    return Decoded(pixels, np.arange(len(pixels), dtype=np.int64), seen)


def _checked(one: _Set, data: DataConfig, complain: Complain) -> None:
    """Complain of images of another size, and of broken ones where these are not to be left out."""
    assert one.decoded is not None
    seen = one.decoded.seen
    if seen.broken and (data.on_error == "fail" or not len(one.decoded.kept)):
        complain(_naming(one.key, refusal(seen.broken, len(one.source))))
    if seen.odd is not None:
        complain(_naming(one.key, seen.odd))
    one.said.broken = seen.broken
    one.said.count = len(one.decoded.kept)
    if one.labels is not None and len(one.decoded.kept) < len(one.labels.codes):
        one.labels = replace(one.labels, codes=one.labels.codes[one.decoded.kept])
        counts = np.bincount(one.labels.codes, minlength=len(one.labels.names))
        one.said.classes = {name: int(n) for name, n in zip(one.labels.names, counts, strict=True) if n}


def _problem(sets: dict[str, _Set], data: DataConfig, seed: int, reading: Reading) -> Problem:
    """The problem of three sets, or of two and a share, that are read."""
    s_0, u_0, s_val = sets["labeled"], sets["pool"], sets.get("validation")
    assert s_0.items is not None and u_0.items is not None
    classes, validating, rejected, of_validation = _classes(s_0, s_val, data)
    taught = np.setdiff1d(np.arange(len(s_0.items)), rejected)
    shared = frozenset(one.key for one in sets.values() if one.streamed is None and one.source.ids_are_shared)
    check_overlap(s_0.items, None if s_val is None else s_val.items, u_0.items, shared)
    whole = _labeled(s_0.items, taught, classes.codes)
    nones = [s_0.items.take(rejected)]
    if s_val is not None:
        assert s_val.items is not None and validating is not None
        kept = np.setdiff1d(np.arange(len(s_val.items)), of_validation)
        if not len(kept):
            raise UserError(
                f"{s_val.source.named}: all its images are '{data.none_label}'; must hold some of the classes"
            )
        labeled, validation = whole, _labeled(s_val.items, kept, validating.codes)
        nones.append(s_val.items.take(of_validation))
    else:
        labeled, validation = _shared_out(whole, classes.names, data, seed, reading)
    if sum(map(len, nones)):
        reading.notes.append(
            f"data.none_label={data.none_label}: {sum(map(len, nones)):,} images belong to none of the classes"
        )
    normalisation = statistics(labeled.pixels) if isinstance(labeled, LabeledImages) else ((), ())
    return Problem(
        labeled,
        validation,
        u_0.items,
        classes.names,
        *normalisation,
        rejected=_joined(nones),
        streamed=u_0.streamed,
    )


def _shared_out(
    whole: Labeled, names: tuple[str, ...], data: DataConfig, seed: int, reading: Reading
) -> tuple[Labeled, Labeled]:
    assert data.validation_share is not None
    drawn = seed if data.split_seed is None else data.split_seed
    stays, validates = shares.stratified(whole.labels, whole.digests(), data.validation_share, drawn)
    if not len(validates):
        raise UserError(
            f"data.validation_share={data.validation_share:g}: every class has a single labelled image, so none is "
            "left to validate; label more, or give data.validation"
        )
    labeled, validation = whole.take(stays), whole.take(validates)
    check_two_classes(labeled.labels, reading.sets[0].named, "label images of other classes too")
    counts = np.bincount(validation.labels, minlength=len(names))
    share = SetRead("validation", f"data.validation_share={data.validation_share:g}", "share of the labelled images")
    share.count, share.what = len(validation), reading.sets[0].what
    share.classes = {name: int(n) for name, n in zip(names, counts, strict=True) if n}
    reading.sets.insert(1, share)
    reading.notes.append(f"{len(labeled):,} labelled images are left for S_0")
    return labeled, validation


def _labeled(items: Items, positions: Integers, codes: Integers) -> Labeled:
    part = items.take(positions)
    if isinstance(part, Images):
        return LabeledImages(part.pixels, part.ids, codes[positions])
    assert isinstance(part, Vectors)
    return LabeledVectors(part.vectors, part.ids, codes[positions])


def _joined(parts: list[Items]) -> Items | None:
    """Images of several sets as one; ids that two of them share get the set's number."""
    kept = [part for part in parts if len(part)]
    if not kept:
        return None
    ids = [name for part in kept for name in part.ids]
    if len(set(ids)) < len(ids):
        ids = [f"{number}/{name}" for number, part in enumerate(kept) for name in part.ids]
    array = np.concatenate([part.array for part in kept])
    return Images(array, tuple(ids)) if isinstance(kept[0], Images) else Vectors(array, tuple(ids))


def _naming(key: str, error: UserError) -> UserError:
    """The error with the key of the configuration that led there."""
    line = str(error)
    return error if line.startswith("data.") else UserError(f"data.{key}: {line}")
