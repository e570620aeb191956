"""What a run goes on with where sets could not be measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rambo_ray.errors import RunError
from rambo_ray.pipeline import left_out, plan
from rambo_ray.pipeline.left_out import Quarantined
from rambo_ray.pipeline.plan import Measured, Plan, fit_input, with_utilities
from rambo_ray.utility_model import fitting
from rambo_ray.utility_samples.sampling import Measurement as M
from rambo_ray.utility_samples.sampling import Training, UtilitySample

from .made_problems import own, problem

SMALL = ("utility_samples.num_pairs=12", "utility_samples.num_held_out=6", "pretraining.k_1=8", "pretraining.tau_1=3",
         "pretraining.num_interpolated=4", "utility_model.outer_epochs=1", "utility_model.inner_steps=1")  # fmt: skip


def made(method: str) -> Plan:
    found = plan.make(own(f"method={method}", *SMALL, "acquisition.budget=5"), problem(40, [0, 1, 2] * 20, 30))
    assert found.num_pairs == 12
    return found


def measured(todo: Plan, lost: set[str]) -> Measured:
    """All sets with numbers of their own, but for those of the ids `lost`."""

    def one(sample: UtilitySample) -> UtilitySample:
        if sample.sample_id in lost:
            return sample
        share = int(sample.sample_id[:6], 16) / 16**6
        trainings = [Training(share, share, 1 - share, 1, 1, 1.0)] if sample.kind == "retrained" else []
        return sample.measured(M.of(trainings, 1.0 + share), "accuracy")

    return Measured(*(tuple(one(s) for s in part) for part in todo.parts))


def test_nothing_is_left_out_where_all_were_measured() -> None:
    for method in ("paper", "mock_rounds"):
        whole = measured(made(method), set())
        assert left_out.leave_out(whole) == whole
        left_out.check(made(method).config, whole, 12)
    assert left_out.lines([], 3, 12, 12) == []


@pytest.mark.parametrize("method", ["paper", "mock_rounds"])
def test_a_pair_goes_with_either_of_its_members(method: str) -> None:
    todo = made(method)
    pairs = todo.offline or todo.rounds
    lost = {pairs[3].sample_id, pairs[4].sample_id, pairs[5].sample_id, todo.held_out[2].sample_id}
    found = left_out.leave_out(measured(todo, lost))
    kept = found.offline or found.rounds
    assert [s.sample_id for s in kept] == [s.sample_id for i, s in enumerate(pairs) if i not in (2, 3, 4, 5)]
    assert [s.sample_id for s in found.held_out] == [s.sample_id for i, s in enumerate(todo.held_out) if i != 2]
    left_out.check(todo.config, found, 12)


@pytest.mark.parametrize("gone", [(0,), (1,), (3,), (1, 2), (0, 1, 2), (0, 1, 2, 3)])
def test_nested_sets_that_are_left_follow_one_another(gone: tuple[int, ...]) -> None:
    todo = made("paper")
    assert len(todo.nested_sets) == 4
    whole = measured(todo, {todo.nested_sets[i].sample_id for i in gone})
    found = left_out.leave_out(whole)
    left = [i for i in range(4) if i not in gone]
    assert [s.iteration for s in found.nested_sets] == left
    task = fit_input(todo.config, found, np.random.default_rng(0).random((40, 7)).astype(np.float32))
    assert len(task.interpolation) == max(len(left) - 1, 0) and task.nested_sets == tuple(
        todo.nested_sets[i].indices for i in left
    )
    for pairs, i in zip(task.interpolation, left, strict=False):
        drawn = [s.indices for s in todo.interpolation if s.iteration == i]
        assert list(pairs.first) == drawn[::2] and list(pairs.second) == drawn[1::2]
    # u_hat is fitted to it, and its interpolated utilities go to the sets they were computed for.
    fitted = fitting.fit(task)
    given = with_utilities(found.interpolation, fitted.interpolated)
    assert [s.iteration for s in given] == [i for i in left[:-1] for _ in range(8)]
    utility = [s.utility for s in found.nested_sets]
    for sample in given:
        at = left.index(sample.iteration)
        low, high = sorted(utility[at : at + 2])
        assert low - 1e-9 <= sample.utility <= high + 1e-9


def test_an_interpolated_pair_goes_whole() -> None:
    todo = made("paper")
    found = left_out.leave_out(measured(todo, {todo.interpolation[9].sample_id}))
    assert len(found.interpolation) == len(todo.interpolation) - 2
    assert todo.interpolation[8].sample_id not in {s.sample_id for s in found.interpolation}


@pytest.mark.parametrize(("method", "lost", "why"), [
    ("paper", 7, "5 of 12 are left, less than half"),
    ("mock_rounds", 7, "5 of 12 are left, less than half"),
    ("mock_rounds", 10, "2 of 12 are left (utility_samples.num_pairs=2: the quadratic u_hat is fitted to at least"),
    ("paper", 12, "0 of 12 are left, less than half"),
])  # fmt: skip
def test_too_little_is_refused_with_the_numbers(method: str, lost: int, why: str) -> None:
    todo = made(method)
    pairs = todo.offline or todo.rounds
    found = left_out.leave_out(measured(todo, {s.sample_id for s in pairs[: 2 * lost : 2]}))
    with pytest.raises(RunError) as error:
        left_out.check(todo.config, found, 12)
    line = str(error.value)
    assert line.startswith(f"too many pairs of sets could not be measured: {why}") and "\n" not in line
    assert line.endswith("run the same command again")


def test_what_is_said() -> None:
    todo = made("paper")
    sets = [todo.offline[4], todo.nested_sets[1], todo.held_out[0], todo.interpolation[0]]
    found = left_out.lines([Quarantined(s, "its worker died") for s in sets], 3, 12, 11)
    assert found[0] == "4 sets killed their workers 3 times and are left out (quarantined):"
    assert [line.split(",")[0] for line in found[1:5]] == ["  pair 2", "  S_1", "  held out", "  interpolated pair 12"]
    assert found[1].endswith(f"{sets[0].size} images (sample {sets[0].sample_id}): its worker died")
    assert found[5] == "  u_hat is fitted to 11 of 12 pairs; the same command tries them again"
    many = left_out.lines([Quarantined(replace(sets[0], pair_id=i), "why") for i in range(8)], 3, 12, 4)
    assert len(many) == 8 and many[6] == "  and 3 more (metrics.json, collect.quarantined)"
    assert left_out.lines([Quarantined(sets[0], "why")], 2, 12, 11)[0].startswith("1 set killed its worker 2 times and")
    assert Quarantined(sets[1], "why").as_json() == {
        "sample_id": sets[1].sample_id, "pair_id": -1, "iteration": 1, "kind": "retrained", "size": sets[1].size,
        "why": "why",
    }  # fmt: skip
