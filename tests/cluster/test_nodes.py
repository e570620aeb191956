"""What is asked of each node before a run computes: whether it reaches what workers read and write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from rambo_ray.cluster import nodes
from rambo_ray.cluster.run import check_reach
from rambo_ray.cluster.session import Session, connect
from rambo_ray.config.schema import ClusterConfig
from rambo_ray.errors import UserError
from rambo_ray.machines import machine
from rambo_ray.pipeline import plan

from .problems import digits, rounds, smoke


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "SEEN_S", 0.3)


@pytest.fixture
def three(session: Session, impatient: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Three nodes, two of which say what stands here by their ids: "" that they reach what they are asked about."""
    says = {"b" * 56: "", "c" * 56: ""}
    own = ray.get_runtime_context().get_node_id()
    listed = [{"NodeID": key, "NodeManagerAddress": f"10.0.0.{place}"} for place, key in enumerate((own, *says))]
    monkeypatch.setattr(nodes, "alive", lambda: listed)
    monkeypatch.setattr(nodes, "_asked", lambda found, *_: {node["NodeID"]: says[node["NodeID"]] for node in found})
    return says


def test_a_folder_that_all_reach(three: dict[str, str], tmp_path: Path) -> None:
    nodes.check_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_some_do_not_reach(three: dict[str, str], tmp_path: Path) -> None:
    three["c" * 56] = "no such file or directory"
    with pytest.raises(UserError) as error:
        nodes.check_folder(tmp_path)
    assert str(error.value) == (
        f"output.dir={tmp_path}: node 10.0.0.2 does not reach it, no such file or directory; workers write there: give "
        "a folder that every node reaches under this path"
    )
    three["b" * 56] = "permission denied"
    with pytest.raises(UserError, match=r"node 10.0.0.1 .*permission denied \(nor do 1 more of 3 nodes\)"):
        nodes.check_folder(tmp_path)
    with pytest.raises(UserError, match=f"^classifier.embedding_cache={tmp_path}: node 10.0.0.1"):
        nodes.check_folder(tmp_path, "classifier.embedding_cache")
    assert list(tmp_path.iterdir()) == [], "nothing is left of the question"


def test_files_that_some_do_not_see(three: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "pool.parquet"
    file.write_bytes(b"12")
    nodes.check_files([file], "data.pool")
    three["b" * 56] = f"{file}: another file is there"
    with pytest.raises(UserError, match=r"^data.pool: node 10.0.0.1 .*another file is there; workers read it"):
        nodes.check_files([file], "data.pool")


def test_only_what_workers_write_to_must_be_reached(three: dict[str, str], tmp_path: Path) -> None:
    three["b" * 56] = "no such file or directory"
    problem, _ = digits()
    check_reach(plan.make(rounds(), problem), problem, tmp_path)  # the driver alone writes
    with pytest.raises(UserError, match="does not reach it"):
        check_reach(plan.make(smoke(), problem), problem, tmp_path)


def test_what_a_node_finds(impatient: None, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    mark.write_text("token")
    assert nodes._reached(str(mark), "token") == "" and list(tmp_path.iterdir()) == [mark]
    assert nodes._reached(str(mark), "another") == "another folder is there"
    assert nodes._reached(str(tmp_path / "none"), "token") == "no such file or directory"
    assert nodes._seen([(str(mark), 5)]) == ""
    assert nodes._seen([(str(mark), 5), (str(mark), 6)]) == f"{mark}: another file is there"
    assert nodes._seen([(str(tmp_path / "none"), 1)]) == f"{tmp_path / 'none'}: no such file or directory"


def test_nodes_of_one_address_are_told_apart() -> None:
    listed = [{"NodeID": key * 56, "NodeManagerAddress": at} for key, at in (("a", "h"), ("b", "h"), ("c", "i"))]
    assert list(nodes._names(listed).values()) == ["h (aaaaaa)", "h (bbbbbb)", "i"]


def test_workers_say_what_their_machine_is(session: Session) -> None:
    """A Ray that this process has not started for itself is asked; its one node is this machine."""
    with connect(ClusterConfig(num_workers=1)) as joined:
        found: Any = joined.agreement
    assert found is not None and found.said is None and session.agreement is None
    assert found.kernels == machine.kernels_digest()
    assert joined.begin.arithmetic == found.arithmetic and joined.begin.threads == 1
    assert replace(session, config=session.config).begin.arithmetic == "", "which nobody can join"
