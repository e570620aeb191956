"""The forecast of a run's cost: in closed form, and from a probe of a real problem."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rambo_ray.config import loading
from rambo_ray.data.images import LabeledImages
from rambo_ray.data.problem import LabeledArrays, divide
from rambo_ray.pipeline import forecast, plan
from rambo_ray.pipeline.forecast import Probe, stages
from rambo_ray.utility_samples.sampling import UtilitySample, offline_pairs

PAPER = loading.parse({"method": "paper"})
PROBE = Probe(
    size=100,
    trainings=5,
    epochs=20.0,
    training_s=2.0,
    stacked_s=2.0,
    otdd_s=0.1,
    forward_s=0.001,
    encode_s=0.002,
    fit_epoch_s=0.5,
    worker_bytes=10**9,
)


def of_size(n: int) -> UtilitySample:
    (sample, _) = offline_pairs(1, 2 * n, n, "uniform", 0, "x")
    return replace(sample, indices=tuple(range(n)))


def forecast_of(workers: int = 1, **values: object) -> dict[str, forecast.Stage]:
    config = loading.with_values(PAPER, values)
    found = stages(
        config, PROBE, [of_size(100), of_size(200)], interpolated=10, iterations=3, k=200, num_pool=5000,
        num_workers=workers, revealed=True,
    )  # fmt: skip
    return {stage.name: stage for stage in found}


def test_trainings_grow_with_their_images() -> None:
    found = forecast_of()
    longer = 2.0 * 2**1.2
    assert found["utility samples"].worker_s == pytest.approx(2.0 + 0.1 + longer + 0.2 + 10 * 0.1)
    assert found["utility samples"].wall_s == found["utility samples"].worker_s
    assert found["base classifier"].worker_s == pytest.approx(longer)
    assert found["final classifier"].worker_s == pytest.approx(2.0 * 7**1.2)  # k + B = 700
    assert found["u_hat"].worker_s == pytest.approx(20 * 4 * 0.5)
    assert found["margins of the pool"].worker_s == pytest.approx(5.0)
    assert found["acquisition"].worker_s == pytest.approx((2500 + 200) * 0.002)


def test_workers_share_what_can_be_shared() -> None:
    one, four = forecast_of(), forecast_of(4)
    for name, stage in four.items():
        assert stage.worker_s == one[name].worker_s
    assert four["base classifier"].wall_s == one["base classifier"].wall_s
    assert four["margins of the pool"].wall_s == one["margins of the pool"].wall_s / 4
    assert four["utility samples"].wall_s < one["utility samples"].wall_s


def test_a_fit_without_a_trainer_has_none_to_start() -> None:
    found = [
        {s.name: s for s in stages(PAPER, PROBE, [of_size(100)], 0, 1, 200, 5000, 1, revealed=True, trainer=workers)}
        for workers in (0, 1, 2)
    ]
    here, one, two = (stage["u_hat"] for stage in found)
    assert here.wall_s == here.worker_s == one.worker_s == one.wall_s - forecast.TRAINER_START_S
    assert two.wall_s == pytest.approx(here.wall_s / 2 + forecast.TRAINER_START_S)


def test_repeats_multiply_the_trainings() -> None:
    once, twice = forecast_of()["utility samples"], forecast_of(**{"utility_samples.repeats": 2})["utility samples"]
    assert twice.worker_s - once.worker_s == pytest.approx(2.0 + 2.0 * 2**1.2)
    assert (once.pieces, twice.pieces) == ("2 trainings", "4 trainings")


def test_stacks_make_samples_cheaper_and_nothing_else() -> None:
    stacked = replace(PROBE, stacked_s=0.2)
    found, alone = (
        {s.name: s.worker_s for s in stages(PAPER, probe, [of_size(100)], 0, 1, 200, 5000, 1, revealed=True)}
        for probe in (stacked, PROBE)
    )
    assert found["utility samples"] == pytest.approx(0.2 + 0.1)
    assert alone["utility samples"] == pytest.approx(2.0 + 0.1)
    assert {**found, "utility samples": 0} == {**alone, "utility samples": 0}


def test_your_own_images_have_no_final_training() -> None:
    found = stages(PAPER, PROBE, [of_size(100)], 0, 1, 200, 5000, 1, revealed=False)
    assert "final classifier" not in {stage.name for stage in found}


def test_the_table_adds_up() -> None:
    text = forecast.table(list(forecast_of(2).values()), PROBE, "cpu", 2, 5 * 10**7)
    assert "total" in text and "1,000 MB in each of 2 workers; 50.0 MB of images" in text
    assert text.endswith("nothing was run or written") and "CPU time" in text
    assert "GPU time" in forecast.table(list(forecast_of().values()), PROBE, "cuda", 1, 0)


def test_more_workers_than_memory_holds_are_told() -> None:
    found, needed = list(forecast_of(2).values()), 2 * PROBE.worker_bytes + 2 * 10**6
    assert "more than" not in forecast.table(found, PROBE, "cpu", 2, 10**6, needed)
    text = forecast.table(found, PROBE, "cpu", 2, 10**6, needed - 10**6)
    assert f"more than the {(needed - 10**6) / 1e6:,.0f} MB that are free here: lower cluster.num_workers" in text


def test_a_probe_measures_every_part() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(120, dtype=np.int64) % 3
    pixels = (labels[:, None, None, None] * 80 + generator.integers(0, 40, (120, 8, 8, 1))).astype(np.uint8)
    images = LabeledImages(pixels, tuple(map(str, range(120))), labels)
    problem, _ = divide(images, ("a", "b", "c"), num_labeled=40, num_validation=30)
    config = loading.with_values(
        PAPER,
        {"data.num_labeled": 40, "pretraining.k_1": 20, "utility_samples.num_pairs": 4, "acquisition.budget": 10,
         "acquisition.batch_size": 5, "acquisition.margin_pool": 20},
    )  # fmt: skip
    todo = plan.make(config, problem)
    parts = (LabeledArrays(p.pixels, p.labels) for p in (problem.labeled, problem.validation))
    found = forecast.probe(config, todo.measuring, todo.kind, None, todo.offline, *parts, at_once=2)
    assert found.size == max(s.size for s in todo.offline)
    assert found.trainings == forecast.PROBE_TRAININGS
    assert found.epochs >= 1
    for name in ("training_s", "stacked_s", "otdd_s", "forward_s", "encode_s", "fit_epoch_s", "worker_bytes"):
        assert getattr(found, name) > 0, name
