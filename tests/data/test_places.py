"""Addresses: the same sets from a server that speaks S3, from fsspec's memory, and what is said where nothing is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rambo_ray.config.schema import DataConfig
from rambo_ray.data import datasets, originals, places

from .refused import refusal
from .test_forms import COUNTS, IMAGES, OF_IMAGES, same
from .written_images import pictures, write_file

BUCKET = "photos"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A local server that speaks S3, with an empty bucket; its address and credentials are in the environment."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    address = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patched:
        for key, value in (
            ("AWS_ENDPOINT_URL", address), ("AWS_ACCESS_KEY_ID", "testing"), ("AWS_SECRET_ACCESS_KEY", "testing"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):  # fmt: skip
            patched.setenv(key, value)
        import boto3

        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield address
    running.stop()


def upload(folder: Path, prefix: str) -> None:
    import boto3

    client = boto3.client("s3")
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            client.upload_file(str(file), BUCKET, f"{prefix}/{file.relative_to(folder).as_posix()}")


class TestS3:
    @pytest.mark.parametrize(
        "form", ["class folders", "pattern", "Parquet", "nested Parquet", "Parquet of paths", "Feather", "CSV", "npz"]
    )
    def test_forms(self, server: str, tmp_path: Path, form: str) -> None:
        name = form.replace(" ", "-")
        given, ids = {}, {}
        for part in COUNTS:
            path, ids[part] = OF_IMAGES[form](tmp_path / part, part)
            given[part] = f"s3://{BUCKET}/{name}" + path.removeprefix(str(tmp_path))
        upload(tmp_path, name)
        problem, _ = datasets.load(DataConfig(name="own", **given), 0)
        same(problem, ids, IMAGES)
        asked = [ids["pool"][5], ids["pool"][0]]
        found = list(originals.stored(DataConfig(name="own", **given), 0, asked))
        assert [one.id for one in found] == asked and all(one.content[:4] == b"\x89PNG" for one in found)
        assert all(one.name.endswith(".png") for one in found)

    def test_broken_and_missing_ones(self, server: str, tmp_path: Path) -> None:
        for part in ("labeled", "validation"):
            OF_IMAGES["class folders"](tmp_path / part, part)
        write_file(tmp_path / "pool/0.png", pictures(1, seed=5)[0])
        (tmp_path / "pool/1.png").write_bytes(b"no image")
        (tmp_path / "pool/2.png").write_bytes(b"")
        (tmp_path / "pool/.hidden.png").write_bytes(b"")
        upload(tmp_path, "broken")
        given = {part: f"s3://{BUCKET}/broken/{part}" for part in COUNTS}
        line = refusal(DataConfig(name="own", **given))
        assert "2 of 3 images cannot be read: s3://photos/broken/pool/1.png, s3://photos/broken/pool/2.png" in line
        assert len(datasets.load(DataConfig(name="own", on_error="skip", **given), 0)[0].pool) == 1

    def test_no_such_thing(self, server: str, tmp_path: Path) -> None:
        OF_IMAGES["class folders"](tmp_path / "labeled", "labeled")
        given = dict.fromkeys(("labeled", "validation"), str(tmp_path / "labeled"))
        for pool in (f"s3://{BUCKET}/nowhere", "s3://no-bucket-at-all/x"):
            line = refusal(DataConfig(name="own", pool=pool, **given))
            assert line.startswith(f"data.pool={pool}: ") and ("no such file" in line or "cannot be read" in line)


def test_memory_of_fsspec(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    given: dict[str, Any] = {}
    ids = {}
    for part in COUNTS:
        _, ids[part] = OF_IMAGES["class folders"](tmp_path / part, part)
        given[part] = f"memory://forms/{part}"
    memory.put(str(tmp_path), "/forms", recursive=True)
    try:
        same(datasets.load(DataConfig(name="own", **given), 0)[0], ids, IMAGES)
    finally:
        memory.rm("/forms", recursive=True)


@pytest.mark.parametrize("value", ["nothing://x/y", "s4://bucket"])
def test_schemes_that_nobody_reads(value: str, tmp_path: Path) -> None:
    OF_IMAGES["class folders"](tmp_path / "labeled", "labeled")
    given = dict.fromkeys(("labeled", "validation"), str(tmp_path / "labeled"))
    line = refusal(DataConfig(name="own", pool=value, **given))
    assert line.startswith(f"data.pool={value}: ") and "s3://" in line


def test_only_addresses_are_addresses() -> None:
    assert places.is_address("s3://a/b") and places.is_address("memory://a")
    for path in ("photos", "/a/b", "C:/photos", "a:b", "memory:4x6-abc"):
        assert not places.is_address(path)
    assert np.array_equal(places.matching("/etc/host*s", "x")[1], [name for name in ["hosts"]])
