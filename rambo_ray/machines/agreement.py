"""Whether the nodes of a cluster compute alike, so that no bit of a result depends on which of them did what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from rambo_ray.classifier.abilities import Abilities
from rambo_ray.errors import UserError
from rambo_ray.machines.machine import Machine
from rambo_ray.numerics import Reproducible

_NAMED = 3  # nodes of a kind that a line names


@dataclass(frozen=True)
class Agreement:
    """What all nodes that compute have in common.

    arithmetic: their `Machine.arithmetic`. kernels: the digest of the compiled kernels where all have the same, else
    "". capability: what torch makes of their CPUs, "" where they need not be of one kind. said: a line on what was
    given up for that, None where nothing was.
    """

    arithmetic: str
    kernels: str
    abilities: Abilities
    capability: str = ""
    said: str | None = None


def agree(nodes: Mapping[str, Machine], driver: Machine | None, reproducible: Reproducible, on_gpus: bool) -> Agreement:
    """What the nodes, by name, have in common; driver: where the command itself runs, None: on the one node there is.

    Raises UserError, with the nodes' names, where they have other versions of what computes, or where bits would
    depend on which of them computed what.
    """
    _same_software(nodes, driver)
    if reproducible == "any_x86":
        for name, machine in nodes.items():
            if machine.unsupported is not None:
                raise UserError(
                    f"cluster.reproducible=any_x86: node {name}: {machine.unsupported}; leave it out of the cluster"
                )
    else:
        _same_kind(nodes, "CPUs", lambda machine: machine.cpu, lambda machine: machine.processor)
    with_gpus = {name: machine for name, machine in nodes.items() if machine.gpu}
    if on_gpus:
        _same_kind(with_gpus, "GPUs", lambda machine: machine.gpu, lambda machine: machine.gpu)
    common = Abilities.common(machine.abilities for machine in nodes.values())
    common = replace(common, cuda_bfloat16=all(machine.abilities.cuda_bfloat16 for machine in with_gpus.values()))
    # As any x86 CPU nobody uses them.
    digests = {machine.kernels for machine in nodes.values()} if reproducible == "machine" else {""}
    shared = next(iter(digests)) if len(digests) == 1 else ""
    if not shared:
        common = replace(common, kernels=False, tiles=False)
    one = next(iter(nodes.values()))
    capability = dict(one.cpu).get("torch", "") if reproducible == "machine" else ""
    said = _without_kernels(nodes) if len(digests) > 1 else None
    return Agreement(one.arithmetic(reproducible), shared, common, capability, said)


def _without_kernels(nodes: Mapping[str, Machine]) -> str:
    lacking = [name for name, machine in nodes.items() if not machine.kernels]
    why = f"no C compiler on {_several(lacking)}" if lacking else "the nodes have different C compilers"
    return f"{why}: mnist_net trains in torch on all nodes, several times slower; install the same compiler on each"


def _same_software(nodes: Mapping[str, Machine], driver: Machine | None) -> None:
    every = {**nodes} if driver is None else {**nodes, "the driver": driver}
    for package in dict.fromkeys(name for machine in every.values() for name, _ in machine.software):
        versions: dict[str, list[str]] = {}
        for node, machine in every.items():
            held = dict(machine.software).get(package, "none")
            if node == "the driver":  # which trains nothing: its torch may be built for another kind of machine
                held = next((name for name in versions if name.partition("+")[0] == held.partition("+")[0]), held)
            versions.setdefault(held, []).append(node)
        if len(versions) > 1:
            raise UserError(
                f"the cluster has {len(versions)} versions of {package}: {_each(versions)}; install one on all nodes "
                "and start Ray again"
            )


def _same_kind(
    nodes: Mapping[str, Machine], what: str, key: Callable[[Machine], object], name: Callable[[Machine], str]
) -> None:
    kinds: dict[object, list[str]] = {}
    for node, machine in nodes.items():
        kinds.setdefault(key(machine), []).append(node)
    if len(kinds) < 2:
        return
    kinds = dict(sorted(kinds.items(), key=lambda kind: (-len(kind[1]), kind[1])))  # what most are, first
    told: dict[str, list[str]] = {}
    for members in kinds.values():
        text = name(nodes[members[0]])
        told[text if text not in told else f"another {text} ({_difference(nodes, kinds)})"] = members
    remedy = "set cluster.reproducible=any_x86, which is slower" if what == "CPUs" else "set cluster.gpus_per_worker=0"
    raise UserError(
        f"the cluster has {len(kinds)} kinds of {what}, and bits of a result would depend on which computed what: "
        f"{_each(told)}; {remedy}, or give Ray nodes of one kind"
    )


def _difference(nodes: Mapping[str, Machine], kinds: Mapping[object, list[str]]) -> str:
    """In what two CPUs of one name differ."""
    first, second, *_ = (dict(nodes[members[0]].cpu) for members in kinds.values())
    found = next((name for name in {**first, **second} if first.get(name) != second.get(name)), "")
    return f"{found}: {second.get(found, 'none')}, not {first.get(found, 'none')}"


def _each(groups: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{name} on {_several(members)}" for name, members in groups.items())


def _several(names: list[str]) -> str:
    left = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {left} more" if left > 0 else "")
