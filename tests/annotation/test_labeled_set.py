"""The labelled set written with the answers reads back as S_1, in whatever form it came."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rambo_ray.annotation import labeled_set, record, request, rounds
from rambo_ray.annotation.request import Request
from rambo_ray.annotation.settled import Settled
from rambo_ray.config import loading
from rambo_ray.data import datasets
from rambo_ray.data.problem import Problem
from rambo_ray.errors import UserError

from ..data.written_images import pictures, write_file, write_parquet
from .runs import finished

CLASSES = ("cat", "dog")
PICTURES = pictures(40, side=8, channels=3)
VECTORS = np.random.default_rng(0).normal(size=(40, 5))
LABELED, VALIDATION, POOL = range(6), range(6, 12), range(12, 24)
OTHERS = range(30, 34)  # a pool without what was bought


def of_class(number: int) -> str:
    return CLASSES[number % 2]


def folders(root: Path) -> dict[str, str]:
    for part, numbers in (("labeled", LABELED), ("validation", VALIDATION)):
        for i in numbers:
            write_file(root / part / of_class(i) / f"{i}.png", PICTURES[i])
    for part, numbers in (("pool", POOL), ("others", OTHERS)):
        for i in numbers:  # a name that the labelled images have, too
            write_file(root / part / f"d{i}" / "0.png", PICTURES[i])
    return {}


def nested_folders(root: Path) -> dict[str, str]:
    folders(root)
    (root / "labeled").rename(root / "train")
    (root / "labeled").mkdir()
    (root / "train").rename(root / "labeled" / "train")
    return {}


def parquet(root: Path, **columns: Callable[[range], list[object]]) -> dict[str, str]:
    for part, numbers in (("labeled", LABELED), ("validation", VALIDATION), ("pool", POOL), ("others", OTHERS)):
        labels = [i % 2 for i in numbers] if part in ("labeled", "validation") else None
        extra = {name: of(numbers) for name, of in columns.items()}
        write_parquet(root / part / "0.parquet", PICTURES[list(numbers)], labels, names=CLASSES, **extra)
    return {}


def parquet_with_ids(root: Path) -> dict[str, str]:
    return parquet(root, id=lambda numbers: [f"id{i}" for i in numbers], camera=lambda numbers: ["x"] * len(numbers))


def parquet_of_names(root: Path) -> dict[str, str]:
    for part, numbers in (("labeled", LABELED), ("validation", VALIDATION), ("pool", POOL), ("others", OTHERS)):
        labels = [of_class(i) for i in numbers]
        write_parquet(root / part / "train-00000-of-00001.parquet", PICTURES[list(numbers)], labels)
    return {}


def parquet_of_embeddings(root: Path) -> dict[str, str]:
    for part, numbers in (("labeled", LABELED), ("validation", VALIDATION), ("pool", POOL), ("others", OTHERS)):
        kind = pa.list_(pa.float32(), 5)
        vectors = pa.array(VECTORS[list(numbers)].astype(np.float32).tolist(), kind)
        labels = [of_class(i) for i in numbers]
        table = pa.table({"id": [f"v{i}" for i in numbers], "embedding": vectors, "label": labels})
        (root / part).mkdir()
        pq.write_table(table, root / part / "a.parquet")
    return {}


def lists(root: Path) -> dict[str, str]:
    folders(root)
    for part, numbers in (("labeled", LABELED), ("validation", VALIDATION)):
        rows = [f"{part}/{of_class(i)}/{i}.png;{of_class(i)};note {i}" for i in numbers]
        (root / f"{part}.csv").write_text("\n".join(["path;label;note", *rows]) + "\n")
    return {"labeled": "labeled.csv", "validation": "validation.csv"}


def arrays(root: Path) -> dict[str, str]:
    for part, numbers in (("labeled", LABELED), ("validation", VALIDATION), ("pool", POOL), ("others", OTHERS)):
        rows = list(numbers)
        np.savez(root / f"{part}.npz", embeddings=VECTORS[rows], label=np.array([of_class(i) for i in rows]),
                 id=np.array([f"v{i}" for i in rows]), about=np.array("made up"))  # fmt: skip
    return {part: f"{part}.npz" for part in ("labeled", "validation", "pool", "others")}


def arrays_of_images(root: Path) -> dict[str, str]:
    for part, numbers in (("labeled", LABELED), ("validation", VALIDATION), ("pool", POOL), ("others", OTHERS)):
        rows = list(numbers)
        np.savez(root / f"{part}.npz", images=PICTURES[rows], label=np.array(rows) % 2)
    return {part: f"{part}.npz" for part in ("labeled", "validation", "pool", "others")}


FORMS = [folders, nested_folders, parquet, parquet_with_ids, parquet_of_names, parquet_of_embeddings, lists, arrays,
         arrays_of_images]  # fmt: skip


def keys_of(root: Path, places: dict[str, str], *more: str, pool: str = "pool") -> list[str]:
    said = {part: root / places.get(part, part) for part in ("labeled", "validation", "pool", "others")}
    said["pool"] = said[pool]
    return ["data.name=own", *(f"data.{part}={said[part]}" for part in ("labeled", "validation", "pool")), *more]


def run_on(root: Path, keys: list[str], number: int = 1) -> tuple[Request, Problem]:
    """A finished run's folder that asks for half of the pool."""
    config = loading.load(None, keys)
    problem, _ = rounds.load(config)
    folder = finished(root / f"run{number}", problem.pool.ids[::2], problem.class_names, keys)
    text = (folder / "manifest.json").read_text()
    data = {
        **json.loads(text)["data"],
        "fingerprint": problem.fingerprint,
        "pool_fingerprint": problem.pool_fingerprint,
    }
    (folder / "manifest.json").write_text(json.dumps({"data": data}))
    return request.read(folder), problem


def content(problem: Problem) -> list[tuple[bytes, str]]:
    names = [problem.class_names[label] for label in problem.labeled.labels]
    return sorted(zip(problem.labeled.digests(), names, strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_reads_back_as_s_1(form: Callable[[Path], dict[str, str]], tmp_path: Path) -> None:
    places = form(tmp_path)
    asked, problem = run_on(tmp_path, keys_of(tmp_path, places))
    names = [*problem.class_names, None]
    answers = [Settled(name, names[i % 3], ("x",)) for i, name in enumerate(asked.ids)]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with labeled_set.written(asked, answers, None) as made:
        assert made is not None
        assert made.remarks == ["2 images that belong to no class are not in it"]
        place = made.keep()
    assert {path: path.read_bytes() for path in before} == before
    assert not [path for path in asked.folder.iterdir() if path.name.startswith(".")]
    assert place == asked.folder / "labeled_round_1"
    given = place if (tmp_path / places.get("labeled", "labeled")).is_dir() else place / places.get("labeled", "x")
    read_back, _ = datasets.load(
        loading.load(None, keys_of(tmp_path, {**places, "labeled": str(given)}, pool="others")).data, 0
    )
    expected, _ = rounds.advanced(problem, None, answers)
    assert len(read_back.labeled) == len(LABELED) + 4
    assert content(read_back) == content(expected)


@pytest.mark.parametrize("form", [parquet_with_ids, lists, arrays])
def test_columns_of_other_names_are_written_under_them(form: Callable[[Path], dict[str, str]], tmp_path: Path) -> None:
    """As data.label_column and data.id_column say, in the set that was given and in the one that is written."""
    places, names = form(tmp_path), {"label": "species", "id": "nr"}
    for path in [*tmp_path.rglob("*.parquet"), *tmp_path.glob("*.csv"), *tmp_path.glob("*.npz")]:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            pq.write_table(table.rename_columns([names.get(name, name) for name in table.column_names]), path)
        elif path.suffix == ".csv":
            path.write_text(path.read_text().replace("path;label", "path;species"))
        else:
            with np.load(path) as held:
                kept = {names.get(name, name): held[name] for name in held.files}
            np.savez(path, **kept)
    more = ["data.label_column=species", *([] if form is lists else ["data.id_column=nr"])]
    asked, problem = run_on(tmp_path, keys_of(tmp_path, places, *more))
    answers = [Settled(name, problem.class_names[i % 2], ("x",)) for i, name in enumerate(asked.ids)]
    with labeled_set.written(asked, answers, None) as made:
        assert made is not None
        place = made.keep()
    given = place if (tmp_path / places.get("labeled", "labeled")).is_dir() else place / places.get("labeled", "x")
    keys = keys_of(tmp_path, {**places, "labeled": str(given)}, *more, pool="others")
    read_back, _ = datasets.load(loading.load(None, keys).data, 0)
    assert content(read_back) == content(rounds.advanced(problem, None, answers)[0])


def test_refused_images_have_a_class_where_the_data_name_one(tmp_path: Path) -> None:
    places = folders(tmp_path)
    write_file(tmp_path / "labeled" / "junk" / "1.png", PICTURES[39])
    asked, problem = run_on(tmp_path, keys_of(tmp_path, places, "data.none_label=junk"))
    assert "junk" not in problem.class_names
    with labeled_set.written(asked, [Settled(asked.ids[0], None, ())], str(tmp_path / "out")) as made:
        assert made is not None and not made.remarks
        made.keep()
    assert sorted(path.name for path in (tmp_path / "out" / "junk").iterdir()) == ["0.png", "1.png"]


def test_a_later_round_s_set_has_the_answers_of_all(tmp_path: Path) -> None:
    keys = keys_of(tmp_path, folders(tmp_path))
    first, problem = run_on(tmp_path, keys)
    record.write(first, [Settled(name, "cat", ()) for name in first.ids[:3]])
    again = [*keys, "round.number=2", f"round.after={first.folder}"]
    second, left = run_on(tmp_path, again, 2)
    answers = [Settled(name, "dog", ()) for name in second.ids[:2]]
    with labeled_set.written(second, answers, None) as made:
        assert made is not None
        place = made.keep()
    assert place.name == "labeled_round_2"
    read_back, _ = datasets.load(loading.load(None, keys_of(tmp_path, {"labeled": str(place)}, pool="others")).data, 0)
    assert content(read_back) == content(rounds.advanced(left, None, answers)[0])
    assert len(read_back.labeled) == len(problem.labeled) + 5


def test_what_is_not_kept_is_gone(tmp_path: Path) -> None:
    asked, _ = run_on(tmp_path, keys_of(tmp_path, folders(tmp_path)))
    before = sorted(tmp_path.rglob("*"))
    with labeled_set.written(asked, [Settled(asked.ids[0], "cat", ())], None):
        pass
    with pytest.raises(KeyError), labeled_set.written(asked, [Settled(asked.ids[0], "cat", ())], None):
        raise KeyError
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_overwritten_and_benchmarks_have_nothing_to_write(tmp_path: Path) -> None:
    asked, _ = run_on(tmp_path, keys_of(tmp_path, folders(tmp_path)))
    (asked.folder / "labeled_round_1").mkdir()
    with pytest.raises(UserError, match="exists already"), labeled_set.written(asked, [], None):
        pass
    digits = request.read(finished(tmp_path / "digits", ["a"]))
    with labeled_set.written(digits, [], None) as made:
        assert made is None
    with pytest.raises(UserError, match="no labelled set of your own"), labeled_set.written(digits, [], "x"):
        pass


def test_ids_that_do_not_fit_are_refused_before_anything_is_kept(tmp_path: Path) -> None:
    parquet(tmp_path, id=lambda numbers: [100 + i for i in numbers])
    pool = pq.read_table(tmp_path / "pool" / "0.parquet")
    names = pa.array([f"x{i}" for i in range(len(pool))])
    pq.write_table(pool.set_column(pool.schema.get_field_index("id"), "id", names), tmp_path / "pool" / "0.parquet")
    asked, _ = run_on(tmp_path, keys_of(tmp_path, {}))
    answers = [Settled(asked.ids[0], "cat", ())]
    with pytest.raises(UserError, match="ids strings"), labeled_set.written(asked, answers, None):
        pass
    assert sorted(path.name for path in asked.folder.iterdir()) == ["config.yaml", "manifest.json", "selection.parquet"]
