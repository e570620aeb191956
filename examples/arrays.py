"""Pick 40 of 1297 images of digits that lie in memory as arrays; a minute on two cores.

python examples/arrays.py
"""

from __future__ import annotations

from sklearn.datasets import load_digits

from rambo_ray import Picked, Rambo

# Fewer retrainings than usual, so that it is over soon; leave them out for your own data.
QUICK = {"utility_samples.num_pairs": 30, "utility_samples.num_held_out": 20, "classifier.max_epochs": 30}


def main() -> Picked:
    digits = load_digits()
    images, labels = digits.images / 16, digits.target  # floats in [0, 1], and a number each

    labeled = images[:200], labels[:200]
    validation = images[200:500], labels[200:500]
    pool = images[500:]  # pretend that nobody has labelled these

    picked = Rambo(budget=40, overrides=QUICK).select(labeled, validation, pool)

    print(picked)
    print("rows of the pool to annotate:", picked.indices.tolist())
    return picked


if __name__ == "__main__":
    main()
