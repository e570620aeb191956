"""The nodes of a cluster: what kind of machine each is, and whether it reaches the folder that workers write to."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray._private.state import available_resources_per_node  # there is no public way to see it by node
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rambo_ray.errors import RunError, UserError
from rambo_ray.machines import agreement, machine
from rambo_ray.machines.agreement import Agreement
from rambo_ray.machines.machine import Machine
from rambo_ray.numerics import Reproducible

# A node that has not answered until then is not counted on: a new process that imports torch on a slow disk takes long.
ANSWER_S = 180.0
# A shared file system shows a new file at once, or when it next looks.
SEEN_S = 5.0


def alive() -> list[Mapping[str, Any]]:
    """What Ray says of each node that is there and has CPUs, so that work may come to it."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]


def free() -> list[Mapping[str, float]]:
    """What of its resources each of these nodes has free."""
    left = available_resources_per_node()
    return [left.get(node["NodeID"], {}) for node in alive()]


def agreed(reproducible: Reproducible, gpus: float) -> Agreement:
    """What the nodes that compute have in common; gpus: what an actor takes of a GPU.

    Raises UserError where bits would depend on which of them computes what.
    """

    def options(node: Mapping[str, Any]) -> dict[str, float]:
        return {"num_gpus": 0.01} if gpus and node["Resources"].get("GPU", 0) else {}  # without, it would see none

    found = alive()
    names = _names(found)
    told = _asked(found, names, ray.remote(_machine), options)
    if not told:
        raise RunError("no node of the cluster answers; look at 'ray status'")
    alone = set(told) == {ray.get_runtime_context().get_node_id()}
    driver = None if alone else machine.this()
    return agreement.agree({names[key]: told[key] for key in told}, driver, reproducible, gpus > 0)


def check_folder(folder: Path, key: str = "output.dir") -> None:
    """Raise UserError where a node does not reach the `folder`, which workers write to; `key` named it."""
    token = secrets.token_hex(8)
    mark = folder / f".reached-{token}"
    mark.write_text(token, encoding="ascii")
    try:
        said = _lacking(ray.remote(_reached), str(mark), token)
    finally:
        mark.unlink(missing_ok=True)
    if said:
        raise UserError(
            f"{key}={folder}: {said}; workers write there: give a folder that every node reaches under this path"
        )


def check_files(files: Sequence[Path], key: str) -> None:
    """Raise UserError where a node does not see one of the `files`, which workers read; `key` named them."""
    said = _lacking(ray.remote(_seen), [(str(file), file.stat().st_size) for file in files])
    if said:
        raise UserError(f"{key}: {said}; workers read it: put it where every node finds it under this path")


def _lacking(task: Any, *arguments: Any) -> str:
    """Of the nodes beside the driver's which does not do what a `task` tries, and why; "" where all do."""
    own = ray.get_runtime_context().get_node_id()
    others = [node for node in alive() if node["NodeID"] != own]
    names = _names(others)
    answers = _asked(others, names, task, lambda node: {}, *arguments)
    lacking = {names[node]: why for node, why in answers.items() if why}
    if not lacking:
        return ""
    name, why = next(iter(lacking.items()))
    more = f" (nor do {len(lacking) - 1} more of {len(others) + 1} nodes)" if len(lacking) > 1 else ""
    return f"node {name} does not reach it, {why}{more}"


def _names(found: list[Mapping[str, Any]]) -> dict[str, str]:
    """By node id: its address, with the beginning of the id where several have one."""
    addresses = [node["NodeManagerAddress"] for node in found]
    return {
        node["NodeID"]: address if addresses.count(address) == 1 else f"{address} ({node['NodeID'][:6]})"
        for node, address in zip(found, addresses, strict=True)
    }


def _asked(
    found: list[Mapping[str, Any]],
    names: Mapping[str, str],
    task: Any,
    options: Callable[[Mapping[str, Any]], dict[str, float]],
    *arguments: Any,
) -> dict[str, Any]:
    """A task's answer from each node, by its id. Nodes that end meanwhile are left out."""
    refs = {}
    for node in found:
        where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        # No CPUs, so that it is answered even where others' work fills the node.
        chosen = task.options(**{"num_cpus": 0, "scheduling_strategy": where, "max_retries": 0} | options(node))
        refs[node["NodeID"]] = chosen.remote(*arguments)
    answers, until = {}, time.monotonic() + ANSWER_S
    for key, ref in refs.items():
        try:
            answers[key] = ray.get(ref, timeout=max(until - time.monotonic(), 0.1))
        except GetTimeoutError as error:
            raise RunError(f"node {names[key]} did not answer within {ANSWER_S:.0f} s; is it overloaded?") from error
        except RayError as error:
            if any(node["NodeID"] == key for node in alive()):
                reason = " ".join(str(getattr(error, "cause", None) or error).split())[:300]
                raise RunError(f"node {names[key]} cannot run a task ({reason})") from error
    return answers


def _machine() -> Machine:
    return machine.this()


def _reached(mark: str, token: str) -> str:
    """Why this node does not see a file of the driver, or cannot write beside it; "" where it does and can."""
    path, until = Path(mark), time.monotonic() + SEEN_S
    while True:
        try:
            if path.read_text(encoding="ascii") != token:
                return "another folder is there"
            beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
            beside.touch()
            beside.unlink()
            return ""
        except OSError as error:
            if time.monotonic() >= until:
                return _reason(error)
        time.sleep(0.2)


def _seen(files: Sequence[tuple[str, int]]) -> str:
    """Why this node does not see the first of these files, with these sizes, that it does not see; "" where it does."""
    for file, size in files:
        try:
            found = Path(file).stat().st_size
        except OSError as error:
            return f"{file}: {_reason(error)}"
        if found != size:
            return f"{file}: another file is there"
    return ""


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
