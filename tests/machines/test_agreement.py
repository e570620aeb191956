"""Which nodes may compute together, and what is said of those that may not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rambo_ray.classifier.abilities import Abilities
from rambo_ray.classifier.settings import choose_kernels, choose_precision
from rambo_ray.errors import UserError
from rambo_ray.machines.agreement import agree
from rambo_ray.machines.machine import Machine

ALL = Abilities(kernels=True, tiles=True, bfloat16=True, cuda_bfloat16=True)
SOFTWARE = {"Python": "3.11", "rambo_ray": "abc", "torch": "2.7.0+cu126", "numpy": "2.2.0"}


def machine(cpu: str = "one", gpu: str = "", software: dict[str, str] | None = None, **more: Any) -> Machine:
    held = tuple((SOFTWARE if software is None else software).items())
    named = (("vendor_id", "Some"), ("instructions", cpu))
    made = Machine("host", held, named, f"CPU {cpu}", gpu, "digest", None, ALL)
    return replace(made, **more)


HEAD = machine("another", software=SOFTWARE | {"torch": "2.7.0+cpu"}, abilities=Abilities(False, False, False, False))


def test_nodes_of_one_kind_agree_whatever_the_head_is() -> None:
    """A head without GPU does not make GPU workers train in float32, one with AMX does not make others emulate."""
    found = agree({"a": machine(gpu="H100"), "b": machine(gpu="H100")}, HEAD, "machine", on_gpus=True)
    assert found.abilities == ALL and found.kernels == "digest" and found.said is None
    assert choose_precision("auto", "cuda", "resnet18", "auto", found.abilities) == "bfloat16"
    bare = machine(abilities=replace(ALL, tiles=False, bfloat16=False))
    found = agree({"a": bare, "b": bare}, machine("another"), "machine", on_gpus=False)
    assert choose_precision("auto", "cpu", "mnist_net", "auto", found.abilities) == "float32"
    assert choose_kernels("mnist_net", "float32", "cpu", "auto", found.abilities) == "compiled"
    assert choose_precision("auto", "cpu", "resnet18", "auto", found.abilities) == "float32"


def test_what_one_lacks_none_uses() -> None:
    bare = machine(kernels="", abilities=Abilities(False, False, True, False))
    found = agree({"a": machine(), "b": bare, "c": machine()}, HEAD, "machine", on_gpus=False)
    assert not found.abilities.kernels and not found.abilities.tiles and found.kernels == ""
    assert found.said == (
        "no C compiler on b: mnist_net trains in torch on all nodes, several times slower; install the same compiler "
        "on each"
    )
    assert choose_kernels("mnist_net", "float32", "cpu", "auto", found.abilities) == "torch"
    other = machine(kernels="another")
    found = agree({"a": machine(), "b": other}, HEAD, "machine", on_gpus=False)
    assert not found.abilities.kernels and "different C compilers" in str(found.said)
    none = agree({"a": bare, "b": bare}, HEAD, "machine", on_gpus=False)
    assert none.said is None and not none.abilities.kernels


def test_a_mixed_cluster_is_refused_with_its_nodes_and_a_remedy() -> None:
    nodes = {"10.0.0.1": machine(), "10.0.0.2": machine("two"), "10.0.0.3": machine()}
    with pytest.raises(UserError) as error:
        agree(nodes, HEAD, "machine", on_gpus=False)
    assert str(error.value) == (
        "the cluster has 2 kinds of CPUs, and bits of a result would depend on which computed what: CPU one on "
        "10.0.0.1, 10.0.0.3; CPU two on 10.0.0.2; set cluster.reproducible=any_x86, which is slower, or give Ray nodes "
        "of one kind"
    )
    alike = agree(nodes, HEAD, "any_x86", on_gpus=False)
    assert alike.arithmetic == machine().arithmetic("any_x86") == machine("two").arithmetic("any_x86")
    assert alike.kernels == "" and alike.said is None, "which nobody uses then"
    assert machine().arithmetic("machine") != machine("two").arithmetic("machine")


def test_two_kinds_of_one_name_are_told_apart() -> None:
    nodes = {"a": machine(), "b": replace(machine("two"), processor="CPU one")}
    with pytest.raises(UserError, match=r"CPU one on a; another CPU one \(instructions: two, not one\) on b"):
        agree(nodes, HEAD, "machine", on_gpus=False)


def test_gpus_of_two_kinds_count_where_they_are_used() -> None:
    nodes = {"a": machine(gpu="A100"), "b": machine(gpu="H100"), "c": machine()}
    with pytest.raises(UserError, match=r"2 kinds of GPUs.*A100 on a; H100 on b; set cluster.gpus_per_worker=0"):
        agree(nodes, HEAD, "machine", on_gpus=True)
    assert agree(nodes, HEAD, "machine", on_gpus=False).said is None


def test_a_node_without_gpu_does_not_count_for_them() -> None:
    nodes = {"a": machine(gpu="H100"), "c": machine(abilities=replace(ALL, cuda_bfloat16=False))}
    assert agree(nodes, HEAD, "machine", on_gpus=True).abilities.cuda_bfloat16


@pytest.mark.parametrize("package", ["rambo_ray", "torch", "numpy", "Python"])
def test_other_versions_are_refused_by_name(package: str) -> None:
    nodes = {"a": machine(), "b": machine(software=SOFTWARE | {package: "0.1"}), "c": machine()}
    with pytest.raises(UserError) as error:
        agree(nodes, HEAD, "machine", on_gpus=False)
    assert str(error.value) == (
        f"the cluster has 2 versions of {package}: {SOFTWARE[package]} on a, c, the driver; 0.1 on b; install one on "
        "all nodes and start Ray again"
    )
    missing = {name: held for name, held in SOFTWARE.items() if name != package}
    with pytest.raises(UserError, match=rf"versions of {package}: .* on a, the driver; none on b"):
        agree({"a": machine(), "b": machine(software=missing)}, machine(), "machine", on_gpus=False)


def test_a_driver_of_another_version_is_refused_and_one_of_another_build_is_not() -> None:
    node = machine()
    with pytest.raises(UserError, match=r"versions of torch: 2.7.0\+cu126 on a; 2.6.0\+cpu on the driver"):
        agree({"a": node}, machine(software=SOFTWARE | {"torch": "2.6.0+cpu"}), "machine", on_gpus=False)
    assert agree({"a": node}, HEAD, "machine", on_gpus=False).arithmetic == node.arithmetic("machine")


def test_a_driver_on_the_only_node_is_not_compared_with_it() -> None:
    """Both read the same files, and these may change between two looks."""
    node = machine(software=SOFTWARE | {"rambo_ray": "edited"})
    assert agree({"a": node}, None, "machine", on_gpus=False).arithmetic == machine().arithmetic("machine")


def test_a_node_that_cannot_compute_as_any_x86_is_named() -> None:
    arm = machine(unsupported="this is a aarch64 machine, not x86")
    with pytest.raises(
        UserError, match="cluster.reproducible=any_x86: node b: this is a aarch64 machine.*leave it out"
    ):
        agree({"a": machine(), "b": arm}, HEAD, "any_x86", on_gpus=False)


def test_many_nodes_are_counted() -> None:
    nodes = {f"n{i}": machine() for i in range(9)} | {"z": machine("two")}
    with pytest.raises(UserError, match="CPU one on n0, n1, n2 and 6 more; CPU two on z"):
        agree(nodes, HEAD, "machine", on_gpus=False)
