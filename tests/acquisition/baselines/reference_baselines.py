"""The strategies as one would write them down first: everything formed, nothing kept from pick to pick.

They draw the same random numbers in the same order as the package, so that picks can be compared one
by one. Letters as in `rambo_ray.acquisition.baselines`.
"""

from __future__ import annotations

import numpy as np

from rambo_ray.acquisition.baselines.inputs import StrategyInputs


def softmax(z: np.ndarray) -> np.ndarray:
    """Probabilities [K] of one image's logits [K]."""
    p = np.exp(np.float64(z) - np.max(np.float64(z)))
    return p / p.sum()


def gradient(z: np.ndarray, embedding: np.ndarray, label: int, bias: bool) -> np.ndarray:
    """Gradient of the cross-entropy at one image: [K, E], or [K, E + 1] with the bias as a last column."""
    residual = softmax(z)
    residual[label] -= 1
    return np.outer(residual, np.append(embedding, [1.0] if bias else []))


def badge(inputs: StrategyInputs, budget: int, generator: np.random.Generator) -> list[int]:
    """BADGE with materialised gradients; all distances to all chosen afresh for each pick."""
    pairs = zip(inputs.logits, inputs.embeddings, strict=True)
    g = np.stack([gradient(z, e, int(z.argmax()), bias=False).ravel() for z, e in pairs])
    picked = [max(range(len(g)), key=lambda i: (g[i] @ g[i], -i))]
    while len(picked) < budget:
        weights = np.min([((g - g[j]) ** 2).sum(axis=1) for j in picked], axis=0)
        if weights.sum() == 0:
            picked.append(int(generator.choice([i for i in range(len(g)) if i not in picked])))
            continue
        threshold, total = generator.random() * weights.sum(), 0.0
        for i, weight in enumerate(weights):
            total += weight
            if total > threshold:
                picked.append(i)
                break
    return picked[:budget]


def coreset(inputs: StrategyInputs, budget: int, generator: np.random.Generator) -> list[int]:
    """Greedy k-centre; all distances to all centres afresh for each pick."""
    points = inputs.embeddings.astype(np.float64)
    centres = list(inputs.labeled_embeddings.astype(np.float64))
    picked: list[int] = []
    while len(picked) < budget:
        if not centres:
            best = int(generator.integers(len(points)))
        else:
            nearest = np.min([np.linalg.norm(points - c, axis=1) for c in centres], axis=0)
            best = max((i for i in range(len(points)) if i not in picked), key=lambda i: (nearest[i], -i))
        picked.append(best)
        centres.append(points[best])
    return picked


def glister(inputs: StrategyInputs, budget: int, generator: np.random.Generator, rate: float = 0.05) -> list[int]:
    """GLISTER with materialised gradients and an explicit change of W and b at each step."""
    pool = zip(inputs.logits, inputs.embeddings, strict=True)
    g = np.stack([gradient(z, e, int(z.argmax()), bias=True) for z, e in pool])
    own = zip(inputs.labeled_logits, inputs.labeled_embeddings, inputs.labels, strict=True)
    steps = [gradient(z, e, int(y), bias=True) for z, e, y in own]
    moved = np.zeros(g.shape[1:])  # how far W and b have come from f's
    if steps:
        moved -= rate * np.mean(steps, axis=0)
    picked: list[int] = []
    while len(picked) < budget:
        of_validation = zip(
            inputs.validation_logits, inputs.validation_embeddings, inputs.validation_labels, strict=True
        )
        g_val = np.mean(
            [gradient(z + moved @ np.append(e, 1.0), e, int(y), bias=True) for z, e, y in of_validation], axis=0
        )
        left = [i for i in range(len(g)) if i not in picked]
        best = max(left, key=lambda i: ((g[i] * g_val).sum(), -i))
        picked.append(best)
        moved -= rate * g[best]
    return picked


def probcover(near: np.ndarray, covered: np.ndarray, budget: int) -> list[int]:
    """Greedy coverage given which images each ball holds [N, N] and what is covered; stops when all is."""
    covered, picked = covered.copy(), []
    while len(picked) < budget and not covered.all():
        gains = [int((near[i] & ~covered).sum()) for i in range(len(near))]
        best = gains.index(max(gains))
        picked.append(best)
        covered |= near[best]
    return picked


def typiclust(inputs: StrategyInputs, clusters: np.ndarray, budget: int) -> list[int]:
    """TypiClust given the cluster of every labelled and pool image [k + N], by plain sorting for each pick."""
    k = len(inputs.labels)
    points = np.concatenate([inputs.labeled_embeddings, inputs.embeddings]).astype(np.float64)
    members = {c: np.flatnonzero(clusters == c).tolist() for c in set(clusters.tolist())}
    taken = set(range(k))

    def typicality(i: int) -> float:
        others = sorted(np.linalg.norm(points[i] - points[j]) for j in members[int(clusters[i])] if j != i)[:20]
        mean = np.mean(others) if others else 0.0
        return np.inf if mean == 0 else 1 / mean

    picked: list[int] = []
    while len(picked) < budget:
        open_clusters = [c for c, m in members.items() if set(m) - taken]
        large = [c for c in open_clusters if len(members[c]) >= 5]
        best = min(large or open_clusters, key=lambda c: (len(set(members[c]) & taken), -len(members[c]), c))
        chosen = max(sorted(set(members[best]) - taken), key=lambda i: (typicality(i), -i))
        taken.add(chosen)
        picked.append(chosen - k)
    return picked
