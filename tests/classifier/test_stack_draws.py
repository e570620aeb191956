"""What the GPU's stack draws, on a CPU: numbers that are uniform, and a schedule that depends on nobody's company."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rambo_ray.classifier import training
from rambo_ray.classifier.stacks import draws
from rambo_ray.classifier.stacks.schedule import Schedule, Step

CPU = torch.device("cpu")


class TestDraws:
    def test_uniform(self) -> None:
        """Mean and variance within four standard errors, and no bin of 100 off by more than five of its own."""
        n = 400_000
        u = draws.uniform(draws.at(draws.starts([7], draws.DROPOUT), torch.arange(n))).double()
        assert float(u.mean()) == pytest.approx(0.5, abs=4 * (1 / 12 / n) ** 0.5)
        assert float(u.var()) == pytest.approx(1 / 12, abs=4 * (1 / 180 / n) ** 0.5)
        counts = torch.histc(u, 100, 0, 1)
        assert float((counts - n / 100).abs().max()) < 5 * (n / 100) ** 0.5
        assert abs(float(torch.corrcoef(torch.stack([u[:-1], u[1:]]))[0, 1])) < 4 / n**0.5
        assert float(u.min()) >= 0 and float(u.max()) < 1

    def test_streams_of_near_seeds_and_of_purposes_are_independent(self) -> None:
        seeds = [0, 1, 2, 2**63 - 1, 2**64 - 1, -1]
        streams = [draws.starts(seeds, what) for what in (draws.WEIGHTS, draws.SHUFFLES, draws.DROPOUT)]
        assert torch.equal(streams[0][4], streams[0][5])  # the same 64 bits
        u = draws.uniform(draws.at(torch.cat([s[:5] for s in streams])[:, None], torch.arange(20_000)))
        correlation = torch.corrcoef(u.double()) - torch.eye(15)
        assert float(correlation.abs().max()) < 5 / 20_000**0.5

    def test_splitmix64(self) -> None:
        """The first numbers of its stream from 1234567, as the reference implementation prints them."""
        found = draws.at(torch.tensor(1234567), torch.arange(3))
        assert [int(v) % 2**64 for v in found] == [6457827717110365317, 3203168211198807973, 9817491932198370423]
        assert int(draws.at(torch.tensor(1234567), 2)) % 2**64 == 9817491932198370423

    @pytest.mark.parametrize("probability", [0.25, 0.5])
    def test_masks_of_dropout(self, probability: float) -> None:
        mask = draws.kept(draws.at(torch.tensor(3), torch.arange(100_000)), probability)
        assert mask.unique().tolist() == [0.0, pytest.approx(1 / (1 - probability))]
        assert float(mask.mean()) == pytest.approx(1.0, abs=4 * (probability / (1 - probability) / 100_000) ** 0.5)

    def test_orders_are_permutations_and_all_alike_likely(self) -> None:
        starts = draws.at(torch.tensor(1), torch.arange(6000))
        found = draws.orders(starts, torch.full((6000,), 3), 5)[:, :3]
        assert torch.equal(found.sort(1).values, torch.arange(3).expand(6000, 3))
        counts = torch.bincount((found * torch.tensor([9, 3, 1])).sum(1))
        assert int((counts > 0).sum()) == 6
        assert float((counts[counts > 0] - 1000).abs().max()) < 5 * 1000**0.5


def schedule_of(sizes: list[int], seeds: list[int], batch_size: int = 4, smallest: int = 1) -> Schedule:
    bounds = [training.batch_bounds(n, batch_size, smallest) for n in sizes]
    subsets = [100 * (seed + 1) + np.arange(n) for n, seed in zip(sizes, seeds, strict=True)]
    return Schedule(subsets, bounds, seeds, batch_size, 3, ((2, 0.5), (3, 0.25)), CPU)


def seen(step: Step, place: int) -> list[int]:
    return step.rows[place, : int(step.real[place])].tolist()


class TestSchedule:
    @pytest.mark.parametrize("smallest", [1, 2])
    def test_every_epoch_is_the_subset_in_another_order(self, smallest: int) -> None:
        sizes = [9, 3, 16, 5]
        schedule = schedule_of(sizes, [0, 1, 2, 3], smallest=smallest)
        steps = list(schedule.steps(20))
        for g, n in enumerate(sizes):
            batches = len(training.batch_bounds(n, 4, smallest))
            epochs = [sum((seen(s, g) for s in steps[first : first + batches]), []) for first in range(0, 12, batches)]
            assert all(sorted(epoch) == list(range(100 * (g + 1), 100 * (g + 1) + n)) for epoch in epochs)
            assert len({tuple(epoch) for epoch in epochs}) > 1
            for number, step in enumerate(steps):
                held = int(step.real[g])
                ends = step.ends is not None and g in step.ends.tolist()
                assert ends == (number % batches == batches - 1)
                assert int(step.epoch[g]) == number // batches + 1
                assert bool(step.last[g]) == (number // batches >= 2)
                assert torch.equal(step.weight[g] > 0, torch.arange(step.rows.shape[1]) < held)
                assert float(step.weight[g].sum()) == pytest.approx(1)
                places = [] if step.places is None else step.places.tolist()
                width = step.rows.shape[1]
                assert [p - g * width for p in places if p // width == g] == list(range(held, width))

    def test_draws_do_not_depend_on_company_or_on_blocks(self) -> None:
        together, alone = schedule_of([9, 3, 16], [0, 1, 2]), schedule_of([16], [2])
        whole = list(together.steps(9))
        together.keep(np.array([2]))
        whole += list(together.steps(7))
        parts = [step for count in (3, 8, 5) for step in alone.steps(count)]
        for number, (a, b) in enumerate(zip(whole, parts, strict=True)):
            place = 2 if number < 9 else 0
            assert seen(a, place) == seen(b, 0)
            for ours, theirs in zip(a.masks, b.masks, strict=True):
                held = int(b.real[0])
                assert torch.equal(ours[place, :held], theirs[0, :held])
