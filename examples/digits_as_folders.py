"""Write scikit-learn's digits as PNG files, in the folders that a run of one's own images reads.

    python examples/digits_as_folders.py photos

makes photos/labeled/CLASS/*.png (100 images), photos/validation/CLASS/*.png (300) and photos/pool/*.png (1000, no
classes), and photos/answers.csv with what an annotator would say of the pool's. For those who want to try the
commands before they have images of their own.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

LABELED, VALIDATION, POOL = 100, 300, 1000


def write(folder: Path) -> None:
    """Write the three parts and the answers below `folder`, which must not be there yet."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))[: LABELED + VALIDATION + POOL]
    answers = []
    for place, row in enumerate(order):
        picture = Image.fromarray(np.round(images[row].reshape(8, 8) * 255 / 16).astype(np.uint8))
        if place < LABELED:
            file = folder / "labeled" / str(labels[row]) / f"{row:04}.png"
        elif place < LABELED + VALIDATION:
            file = folder / "validation" / str(labels[row]) / f"{row:04}.png"
        else:
            file = folder / "pool" / f"{row:04}.png"
            answers.append((file.name, str(labels[row])))
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)
    with (folder / "answers.csv").open("w", newline="") as opened:
        csv.writer(opened).writerows([("id", "label"), *sorted(answers)])


if __name__ == "__main__":
    if len(sys.argv) != 2 or Path(sys.argv[1]).exists():
        sys.exit(f"usage: {sys.argv[0]} FOLDER, one that is not there yet")
    write(Path(sys.argv[1]))
    print(f"{LABELED} labelled, {VALIDATION} validation and {POOL} pool images in {sys.argv[1]}/")
