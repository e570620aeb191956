"""Principal components: what they are, their signs and scale, and that the same features give the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.embeddings import reduce
from rambo_ray.errors import UserError


def features(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Rows with a mean, correlations and a falling spectrum."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(width, width)) / np.sqrt(1 + np.arange(width))[:, None]
    return (rng.normal(size=(count, width)) @ mix + 3 + rng.normal(size=width)).astype(np.float32)


@given(count=st.integers(3, 60), width=st.integers(1, 10), seed=st.integers(0, 100), data=st.data())
def test_against_a_singular_value_decomposition(count: int, width: int, seed: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, min(width, count - 1)))
    x = features(count, width, seed)
    reduction = reduce.fit([x], kept)
    centred = x.astype(np.float64) - x.astype(np.float64).mean(0)
    _, values, rows = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ rows[:kept].T
    scale = np.sqrt((expected**2).mean())
    got = reduction(x).astype(np.float64)
    # A component's sign is free, and two of equal variance may turn; what they span and their lengths are not.
    np.testing.assert_allclose(
        got.T @ got / count * scale**2, np.diag(values[:kept] ** 2 / count), atol=1e-3 * scale**2
    )
    np.testing.assert_allclose((got**2).mean(), 1.0, rtol=1e-5)
    assert reduction.explained == pytest.approx((values[:kept] ** 2).sum() / (values**2).sum())


def test_all_components_keep_all_distances() -> None:
    x = features(40, 6)
    reduction = reduce.fit([x], 6)
    got = reduction(x).astype(np.float64)
    scale = np.sqrt(x.astype(np.float64).var(0).mean())
    ours, theirs = (np.linalg.norm(v[:, None] - v[None], axis=2) for v in (got * scale, x.astype(np.float64)))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert reduction.explained == pytest.approx(1.0)
    # And back: x is the mean and the sum of its components.
    back = got @ np.linalg.inv(reduction.components.numpy()) + reduction.mean.numpy()
    np.testing.assert_allclose(back, x, atol=1e-4)


def test_the_largest_entry_of_a_component_is_positive() -> None:
    x = features(50, 8)
    components = reduce.fit([x], 5).components
    assert bool((components.gather(0, components.abs().argmax(0, keepdim=True)) > 0).all())
    mirrored = reduce.fit([-x], 5).components
    torch.testing.assert_close(mirrored, components)


def test_parts_chunks_and_threads_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    x = features(64, 9)
    whole = reduce.fit([x], 4)
    assert torch.get_num_threads() == 1
    torch.set_num_threads(2)
    again = reduce.fit([x], 4)
    assert torch.get_num_threads() == 2
    assert torch.equal(whole.components, again.components) and torch.equal(whole.mean, again.mean)
    parts = reduce.fit([x[:20], x[:0], x[20:]], 4)
    monkeypatch.setattr(reduce, "CHUNK", 10)
    chunks = reduce.fit([x], 4)
    for other in (parts, chunks):
        torch.testing.assert_close(other.components, whole.components, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(chunks(x), whole(x), atol=1e-6)


def test_no_images_have_no_components() -> None:
    reduction = reduce.fit([features(10, 4)], 3)
    assert reduction(np.zeros((0, 4), np.float32)).shape == (0, 3)
    assert reduction(features(2, 4)).dtype == np.float32


def test_what_cannot_be_reduced() -> None:
    with pytest.raises(ValueError, match="5 components of 10 images with 4 features"):
        reduce.fit([features(10, 4)], 5)
    with pytest.raises(ValueError, match="1 components of 1 images"):
        reduce.fit([features(1, 4)], 1)
    with pytest.raises(UserError, match="^classifier.embedding: all images have the same features"):
        reduce.fit([np.ones((10, 4), np.float32)], 2)
