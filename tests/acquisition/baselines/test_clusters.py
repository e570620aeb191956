"""The strategies that partition the pool: Cluster-Margin, TypiClust and ProbCover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist

from rambo_ray.acquisition.baselines import probcover as cover_module
from rambo_ray.acquisition.baselines import typiclust as typi_module
from rambo_ray.acquisition.baselines.cluster_margin import average_linkage, cluster_margin
from rambo_ray.acquisition.baselines.clusters import k_means
from rambo_ray.acquisition.baselines.probcover import probcover, radius
from rambo_ray.acquisition.baselines.typiclust import mean_neighbour_distances, typiclust
from rambo_ray.classifier.probabilities import margins

from .drawn_inputs import inputs, of_pool
from .reference_baselines import probcover as probcover_slowly
from .reference_baselines import typiclust as typiclust_slowly


def blobs(sizes: list[int], seed: int = 0, spread: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Clusters far apart from each other, on the axes: embeddings [N, len(sizes)] and the cluster of each."""
    of_image = np.repeat(np.arange(len(sizes)), sizes)
    noise = np.random.default_rng(seed).normal(size=(len(of_image), len(sizes)))
    return 10 * np.eye(len(sizes))[of_image] + spread * noise, of_image


class TestAverageLinkage:
    @pytest.mark.parametrize("count", [1, 2, 5, 29, 30])
    def test_is_scipy_s_cut(self, count: int) -> None:
        points = np.random.default_rng(0).normal(size=(30, 3))
        mine, cut = average_linkage(points, count), fcluster(linkage(points, "average"), count, "maxclust")
        assert len(set(mine.tolist())) == count
        assert ((mine[:, None] == mine) == (cut[:, None] == cut)).all()
        firsts = [int(np.flatnonzero(mine == c)[0]) for c in range(count)]
        assert firsts == sorted(firsts)

    @pytest.mark.parametrize("count", [1, 3, 12])
    def test_exactly_as_many_among_copies(self, count: int) -> None:
        assert sorted(set(average_linkage(np.zeros((12, 2)), count).tolist())) == list(range(count))


class TestClusterMargin:
    def test_round_robin_from_the_smallest(self) -> None:
        # 40 candidates in 4 clusters of 3, 7, 10 and 20 images; the first four rounds go through all that last.
        embeddings, of_image = blobs([20, 3, 10, 7])
        picked = cluster_margin(of_pool(embeddings), 40, np.random.default_rng(0))
        rounds = [1, 3, 2, 0] * 3 + [3, 2, 0] * 4 + [2, 0] * 3 + [0] * 10
        assert of_image[picked].tolist() == rounds

    def test_any_member_of_a_cluster_may_come_first(self) -> None:
        embeddings, _ = blobs([5, 15])
        first = [int(cluster_margin(of_pool(embeddings), 1, np.random.default_rng(s))[0]) for s in range(1000)]
        assert np.abs(np.bincount(first, minlength=20)[:5] / 1000 - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 1000)

    def test_only_candidates_until_they_are_used_up(self) -> None:
        given = inputs(70)
        ranked = np.argsort(margins(given.logits), kind="stable").tolist()
        picked = cluster_margin(given, 70, np.random.default_rng(0), candidates=30).tolist()
        for start, stop in [(0, 30), (30, 60), (60, 70)]:
            assert sorted(picked[start:stop]) == sorted(ranked[start:stop])
        assert picked != ranked

    def test_no_candidates(self) -> None:
        with pytest.raises(ValueError, match="candidates=0: at least one is needed"):
            cluster_margin(inputs(5), 1, np.random.default_rng(0), candidates=0)


class TestTypiClust:
    @pytest.mark.parametrize(("k", "budget"), [(0, 3), (0, 9), (4, 5), (12, 8), (5, 60)])
    def test_against_sorting_for_each_pick(self, k: int, budget: int) -> None:
        given = inputs(60, k=k, width=3, seed=k)
        points = np.concatenate([given.labeled_embeddings, given.embeddings])
        clusters = k_means(points, min(k + budget, len(points)), np.random.default_rng(7))
        picked = typiclust(given, budget, np.random.default_rng(7)).tolist()
        assert picked == typiclust_slowly(given, clusters, budget)

    def test_one_of_each_cluster_not_labelled_yet(self) -> None:
        # Six clusters, two of them labelled already, one of 3 images only: the other three, largest first.
        embeddings, of_image = blobs([30, 3, 12, 25, 40, 8], spread=0.01)
        labeled = 10 * np.eye(6)[[0, 2, 2]]
        picked = typiclust(of_pool(embeddings, labeled=labeled), 3, np.random.default_rng(0))
        assert of_image[picked].tolist() == [4, 3, 5]

    def test_the_densest_is_the_most_typical(self) -> None:
        angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        given = of_pool(np.concatenate([ring, [[0.0, 0.0]]]))
        assert typiclust(given, 1, np.random.default_rng(0)).tolist() == [12]

    def test_small_clusters_at_last(self) -> None:
        embeddings, of_image = blobs([9, 4, 8], spread=0.001)
        for clusters in (of_image, of_image + 3):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(typi_module, "k_means", lambda points, count, generator, c=clusters: c)
                picked = typiclust(of_pool(embeddings), 21, np.random.default_rng(0))
            assert (of_image[picked[:17]] != 1).all() and (of_image[picked[17:]] == 1).all()
            assert of_image[picked[:4]].tolist() == [0, 2, 0, 2]

    def test_mean_neighbour_distances(self) -> None:
        points = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
        expected = np.sort(cdist(points, points), axis=1)[:, 1:21].mean(axis=1)
        assert mean_neighbour_distances(points) == pytest.approx(expected, rel=1e-5)
        assert mean_neighbour_distances(points[:1]).tolist() == [0.0]
        assert mean_neighbour_distances(np.zeros((9, 2), dtype=np.float32)).tolist() == [0.0] * 9

    def test_more_than_fifty_clusters(self) -> None:
        given = inputs(400, k=10)
        for _ in range(2):
            picked = typiclust(given, 70, np.random.default_rng(3)).tolist()
        assert picked == typiclust(given, 70, np.random.default_rng(3)).tolist() and len(set(picked)) == 70


class TestProbCover:
    @pytest.mark.parametrize("k", [0, 5])
    @pytest.mark.parametrize("block", [8, 32, 2048])
    @pytest.mark.parametrize("seed", range(3))
    def test_against_a_dense_matrix(self, k: int, block: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        given = inputs(150, k=k, width=3, seed=seed)
        monkeypatch.setattr(cover_module, "_BLOCK", block)
        monkeypatch.setattr(cover_module, "_FEW", 11)
        points = given.embeddings / np.linalg.norm(given.embeddings, axis=1, keepdims=True)
        own = given.labeled_embeddings / np.linalg.norm(given.labeled_embeddings, axis=1, keepdims=True)
        generator = np.random.default_rng(seed)
        delta = radius(points, k_means(points, 3, generator), generator)
        covered = (cdist(points, own) < delta).any(axis=1) if k else np.zeros(150, dtype=bool)
        assert covered.any() == (k > 0)
        expected = probcover_slowly(cdist(points, points) < delta, covered, 150)
        assert 5 < len(expected) < 150
        picked = probcover(given, 150, np.random.default_rng(seed)).tolist()
        assert picked[: len(expected)] == expected

    @pytest.mark.parametrize("n", [1, 20, 90])
    def test_radius_is_the_largest_that_is_pure(self, n: int) -> None:
        rng = np.random.default_rng(n)
        points, classes = rng.normal(size=(n, 3)).astype(np.float32), rng.integers(3, size=n)
        found = radius(points, classes, rng)
        if n == 1:
            assert found == np.inf
            return
        distances = cdist(points, points)

        def pure(r: float) -> float:
            return float(
                np.mean([(classes[row < r] == own).all() for row, own in zip(distances, classes, strict=True)])
            )

        assert pure(found) >= 0.95 > pure(found * (1 + 1e-3))

    def test_one_of_each_blob_then_the_rest_at_random(self) -> None:
        embeddings, of_image = blobs([30, 10, 20, 5], spread=0.01)
        given = of_pool(embeddings, classes=4)
        rests = set()
        for seed in range(4):
            picked = probcover(given, 65, np.random.default_rng(seed))
            assert of_image[picked[:4]].tolist() == [0, 2, 1, 3]
            rests.add(tuple(picked[4:].tolist()))
        assert len(rests) == 4

    def test_labelled_images_cover_first(self) -> None:
        embeddings, of_image = blobs([30, 10, 20, 5], spread=0.01)
        # A labelled image twice as long lies in the same direction, hence in the same ball.
        given = of_pool(embeddings, labeled=20 * np.eye(4)[[0, 1]], classes=4)
        assert of_image[probcover(given, 2, np.random.default_rng(0))].tolist() == [2, 3]

    def test_scale_does_not_matter(self) -> None:
        given = inputs(80)
        scaled = of_pool(given.embeddings * np.float32(64), given.logits, given.labeled_embeddings * 4)
        assert (
            probcover(given, 30, np.random.default_rng(0)).tolist()
            == probcover(scaled, 30, np.random.default_rng(0)).tolist()
        )
