"""RAMBO with classifiers of one's own: a small network, and an estimator of scikit-learn on embeddings.

python examples/own_classifier.py
"""

from __future__ import annotations

from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier
from torch import nn

from rambo_ray import Picked, Rambo

QUICK = {"utility_samples.num_pairs": 15, "utility_samples.num_held_out": 20, "classifier.max_epochs": 15}


def network(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """From images float32 [n, C, H, W], normalised, to logits [n, K]; trained from scratch on every set."""
    channels, height, width = image_shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * height * width, num_classes),
    )


def main() -> dict[str, Picked]:
    digits = load_digits()
    images, labels = digits.images / 16, digits.target
    picked = {}

    picked["network"] = Rambo(budget=30, classifier=network, overrides=QUICK).select(
        (images[:100], labels[:100]), (images[100:300], labels[100:300]), images[300:800]
    )

    # Two axes: embeddings. Here the pixels themselves play them; yours come from any encoder of any modality.
    flat = digits.data
    trees = ExtraTreesClassifier(20, min_samples_leaf=2)
    picked["trees"] = Rambo(budget=30, classifier=trees, overrides=QUICK).select(
        (flat[:100], labels[:100]), (flat[100:300], labels[100:300]), flat[300:800]
    )

    for name, found in picked.items():
        print(f"{name}: {found.ids[:10]} ...\n  {found.verdict}")
    return picked


if __name__ == "__main__":
    main()
