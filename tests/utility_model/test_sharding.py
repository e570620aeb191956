"""Fan and total: each the other's adjoint, the same bits for any number of workers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from rambo_ray.numerics import LINE_BYTES
from rambo_ray.utility_model.sharding import Group, fan, total

from .group_of_threads import run_workers


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


class TestGroup:
    @given(st.integers(1, 6), st.integers(1, 5))
    def test_workers_share_the_shards_in_order(self, size: int, each: int) -> None:
        dealt = [shard for rank in range(size) for shard in Group(size * each, rank, size).local]
        assert dealt == list(range(size * each))

    @pytest.mark.parametrize(("shards", "rank", "size"), [(3, 0, 2), (2, 2, 2), (2, -1, 2), (1, 0, 2)])
    def test_uneven_or_outside_is_refused_in_one_line(self, shards: int, rank: int, size: int) -> None:
        with pytest.raises(ValueError, match=f"rank {rank} of {size} workers") as caught:
            Group(shards, rank, size)
        assert "\n" not in str(caught.value)


class TestOneWorker:
    def test_fan_copies_every_tensor_for_every_shard(self) -> None:
        tensors = [normal(0, 2, 3), normal(1), normal(2, 4)]
        copies = fan(tensors, Group(3))
        assert len(copies) == 3
        for copy in copies:
            for mine, original in zip(copy, tensors, strict=True):
                assert mine.shape == original.shape and torch.equal(mine, original)

    def test_total_adds_in_the_order_of_the_shards(self) -> None:
        # In float32 (1e8 + 1) - 1e8 = 0 and (1e8 - 1e8) + 1 = 1: the order shows.
        parts = [torch.tensor(v) for v in (1e8, 1.0, -1e8)]
        assert total(parts, Group(3)).item() == 0.0
        assert total([parts[0], parts[2], parts[1]], Group(3)).item() == 1.0

    @pytest.mark.parametrize("shards", [1, 2, 3])
    def test_each_is_the_other_s_adjoint(self, shards: int) -> None:
        group, x, y = Group(shards), normal(0, 5).requires_grad_(), normal(1, shards, 5).requires_grad_()
        copies = torch.stack([copy for (copy,) in fan([x], group)])
        summed = total(list(y.unbind()), group)
        inner = (copies * y).sum().item(), (x * summed).sum().item()  # <fan x, y> and <x, total y>
        assert inner[0] == pytest.approx(inner[1])
        (back,) = torch.autograd.grad(copies, x, grad_outputs=y)
        assert torch.equal(back, summed)
        (forth,) = torch.autograd.grad(summed, y, grad_outputs=x)
        assert torch.equal(forth, copies)

    @pytest.mark.parametrize("shards", [1, 2, 3])
    def test_first_and_second_derivatives_through_both(self, shards: int) -> None:
        group = Group(shards)

        def loss(x: Tensor, y: Tensor) -> Tensor:
            parts = [
                (a.sin() * (shard + 1)).sum() * b.square().sum() + (a[:2] * b).sum().exp()
                for shard, (a, b) in enumerate(fan([x, y], group))
            ]
            return total(parts, group).sin()

        inputs = (0.3 * normal(2, 3)).requires_grad_(), (0.3 * normal(3, 2)).requires_grad_()
        assert gradcheck(loss, inputs)
        assert gradgradcheck(loss, inputs)

    def test_float32_stays_float32(self) -> None:
        x = normal(0, 3, dtype=torch.float32).requires_grad_()
        summed = total([copy for (copy,) in fan([x], Group(2))], Group(2))
        (gradient,) = torch.autograd.grad(summed.sum(), x)
        assert summed.dtype == gradient.dtype == torch.float32 and gradient.tolist() == [2.0] * 3

    def test_every_copy_begins_at_a_cache_line_in_every_derivative(self) -> None:
        # A product's bits may depend on it, and where a copy lies depends on how many shards a worker has.
        begins: list[int] = []

        class Seen(torch.autograd.Function):
            """The identity, which notes where its input and its gradients, of any order, begin."""

            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                begins.append(x.data_ptr() % LINE_BYTES)
                return x.clone()

            @staticmethod
            def backward(ctx: Any, *gradients: Tensor) -> Tensor:
                return Seen.apply(gradients[0])

        x, y = (normal(i, size, dtype=torch.float32).requires_grad_() for i, size in enumerate((3, 5)))
        copies = fan([Seen.apply(x), Seen.apply(y)], Group(3))
        value = total([Seen.apply(a).exp().sum() * Seen.apply(b).sin().sum() for a, b in copies], Group(3))
        gradients = torch.autograd.grad(value, [x, y], create_graph=True)
        torch.autograd.grad(sum(g.square().sum() for g in gradients), [x, y])
        assert len(begins) > 2 * (2 + 6) and set(begins) == {0}


class TestSeveralWorkers:
    @staticmethod
    def derivatives(group: Group) -> list[Tensor]:
        """Value, gradient and a Hessian-vector product of a float32 loss whose shards differ in size."""
        x = normal(4, 6, dtype=torch.float32).requires_grad_()
        copies = fan([x.tanh(), x.exp()], group)
        parts = [
            (a * normal(shard, 6, dtype=torch.float32)).sum().exp() * 10.0**shard + (a * b).sum()
            for shard, (a, b) in zip(group.local, copies, strict=True)
        ]
        value = total(parts, group)
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
        (product,) = torch.autograd.grad((gradient * normal(5, 6, dtype=torch.float32)).sum(), x)
        return [value.detach(), gradient.detach(), product]

    @pytest.mark.parametrize(("shards", "size"), [(2, 2), (4, 2), (4, 4), (3, 3), (6, 3)])
    def test_every_worker_has_the_bits_of_one(self, shards: int, size: int) -> None:
        alone = self.derivatives(Group(shards))
        assert all(part.isfinite().all() and part.abs().max() > 0 for part in alone)
        for mine in run_workers(size, shards, self.derivatives):
            assert all(torch.equal(a, b) for a, b in zip(alone, mine, strict=True))

    def test_total_reaches_over_workers(self) -> None:
        results = run_workers(2, 4, lambda group: total([torch.tensor(10.0**s) for s in group.local], group))
        assert [r.item() for r in results] == [1111.0, 1111.0]
