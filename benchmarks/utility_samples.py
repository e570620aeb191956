"""How many utility samples a CPU-second yields: `rambo_ray.training` against a plain loop.

    python benchmarks/utility_samples.py [--data DIR] [--models 3] [--sizes 50 100 200] [--precision auto] [--json]

Both sides train MnistNet from scratch on the same subsets by the same rule and score it on the same
1000 validation images, in one process, on one thread, taking turns. The plain side is written as
active-learning toolkits write it: float32, a DataLoader over a TensorDataset, ReLU before the pool,
default Adam, the loss and the accuracy read at each step. The package computes in what `auto` chooses
for this machine: compiled kernels where it has a C compiler (`CC=false`: as if it had none), in
bfloat16 where the CPU has AMX, else in float32; or in what --precision says. Images are
FashionMNIST from DIR (or RAMBO_DATA), a folder with fashion_mnist/train-*.parquet, else
scikit-learn's digits. The roofline at the end is the time that a step's products and Adam's bytes
would take at the speeds of a large product and of a copy of fc1's weights and moments.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from images import add_data_option, first_rows
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from rambo_ray.classifier import mnist_steps
from rambo_ray.classifier.networks import MnistNet, Shape
from rambo_ray.classifier.prediction import evaluate
from rambo_ray.classifier.training import TrainingSettings, prepare, train
from rambo_ray.config.schema import ClassifierConfig

VALIDATION = 1000


@dataclass(frozen=True)
class Outcome:
    """One model: CPU-seconds of training and of scoring, epochs, images seen, accuracy on S_val."""

    train_s: float
    score_s: float
    epochs: int
    images_seen: int
    accuracy: float

    @property
    def seconds(self) -> float:
        return self.train_s + self.score_s


class PlainNet(nn.Module):
    """MnistNet in its usual spelling."""

    def __init__(self, image_shape: Shape, num_classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.conv1 = nn.Conv2d(channels, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dropout1 = nn.Dropout2d(0.25)
        self.fc1 = nn.Linear(64 * ((height - 4) // 2) * ((width - 4) // 2), 128)
        self.dropout2 = nn.Dropout(0.5)
        self.fc2 = nn.Linear(128, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv1(x))
        x = torch.relu(self.conv2(x))
        x = self.dropout1(torch.max_pool2d(x, 2))
        x = torch.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc2(self.dropout2(x))


def plain(x: Tensor, y: Tensor, val_x: Tensor, val_y: Tensor, settings: TrainingSettings, seed: int) -> Outcome:
    """Train and score one model with a DataLoader, step by step."""
    start = time.process_time()
    torch.manual_seed(seed)
    net = PlainNet(settings.image_shape, settings.num_classes)
    adam = torch.optim.Adam(net.parameters(), lr=settings.learning_rate)
    loader = DataLoader(TensorDataset(x, y), settings.batch_size, shuffle=True)
    epochs, accuracy = 0, 0.0
    while epochs < settings.max_epochs and accuracy < settings.stop_accuracy:
        net.train()
        correct, loss_sum = 0, 0.0
        for batch_x, batch_y in loader:
            adam.zero_grad()
            logits = net(batch_x)
            loss = nn.functional.cross_entropy(logits, batch_y)
            loss.backward()
            adam.step()
            loss_sum += loss.item()
            correct += (logits.argmax(1) == batch_y).sum().item()
        epochs, accuracy = epochs + 1, correct / len(y)
    trained = time.process_time()
    net.eval()
    correct = 0
    with torch.no_grad():
        for batch_x, batch_y in DataLoader(TensorDataset(val_x, val_y), settings.batch_size):
            correct += (net(batch_x).argmax(1) == batch_y).sum().item()
    scored = time.process_time()
    return Outcome(trained - start, scored - trained, epochs, epochs * len(y), correct / len(val_y))


def ours(
    prepared: Tensor, labels: np.ndarray, positions: np.ndarray, val: Tensor, val_labels: np.ndarray,
    settings: TrainingSettings, seed: int,
) -> Outcome:  # fmt: skip
    """Train and score one model with the package."""
    start = time.process_time()
    result = train(prepared, labels, settings, seed, positions=positions)
    trained = time.process_time()
    scores = evaluate(result.model, val, val_labels, settings)
    scored = time.process_time()
    return Outcome(trained - start, scored - trained, result.epochs, result.images_seen, scores.accuracy)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits as uint8 [1797, 8, 8, 1] and int64 [1797]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return (bunch.images * (255 / 16)).astype(np.uint8)[..., None], bunch.target.astype(np.int64)


def flops(image_shape: Shape, num_classes: int) -> float:
    """Floating-point operations of MnistNet for one image, forward and backward.

    A multiply-add counts 2; backward is twice forward, less the first layer's input gradient.
    """
    channels, height, width = image_shape
    conv1 = 2 * (height - 2) * (width - 2) * 32 * channels * 9
    conv2 = 2 * (height - 4) * (width - 4) * 64 * 32 * 9
    fc = 2 * 128 * (64 * ((height - 4) // 2) * ((width - 4) // 2) + num_classes)
    return 3 * (conv1 + conv2 + fc) - conv1


def tiled_flops(image_shape: Shape, num_classes: int) -> float:
    """The products of `rambo_ray.kernels` in float32 for the same: conv2 in 4x4 tiles, conv1 computed twice."""
    channels, height, width = image_shape
    p, q = (height - 4) // 2, (width - 4) // 2
    conv1 = 2 * (height - 2) * (width - 2) * 32 * channels * 9
    conv2 = 2 * 36 * -(-p // 2) * -(-q // 2) * 32 * 64
    fc = 2 * 128 * (64 * p * q + num_classes)
    return 3 * (conv1 + conv2 + fc)


def best_of(call: Callable[[], object], times: int = 7) -> float:
    """The shortest of some CPU times of a call, seconds."""
    spent = []
    for _ in range(times):
        start = time.process_time()
        call()
        spent.append(time.process_time() - start)
    return min(spent)


def machine(precision: str, floats: int) -> tuple[float, float]:
    """What this thread reaches: GFLOP/s of a 1024 x 1024 product in a precision, GB/s of a copy of so many floats."""
    a, b = (torch.randn(1024, 1024).to(getattr(torch, precision)) for _ in range(2))
    source = torch.randn(floats)
    target = torch.empty_like(source)
    product = best_of(lambda: torch.mm(a, b))
    copy = best_of(lambda: target.copy_(source))
    return 2 * 1024**3 / product / 1e9, 2 * source.nbytes / copy / 1e9


def mean(values: list[float]) -> float:
    return float(np.mean(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_data_option(parser, "fashion_mnist")
    parser.add_argument("--models", type=int, default=3, help="subsets per size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200], help="images per subset")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto", help="the package's")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    pixels, labels = first_rows(arguments.data, "fashion_mnist", 3000) if arguments.data else digits()
    shape = (pixels.shape[3], pixels.shape[1], pixels.shape[2])
    classifier = ClassifierConfig.model_validate({"precision": arguments.precision})
    settings = TrainingSettings.from_config(
        classifier, mean=(0.1307,), std=(0.3081,), image_shape=shape, num_classes=10
    )
    compiled = mnist_steps.applies(MnistNet(shape, 10), settings.precision, torch.device("cpu"))
    first = len(labels) - VALIDATION
    start = time.process_time()
    x = prepare(pixels, settings)
    print(f"{'FashionMNIST' if arguments.data else 'digits'}, {len(labels)} images prepared once in "
          f"{time.process_time() - start:.3f} s; one thread, plain float32, ours {settings.precision}"
          f"{' in compiled kernels' if compiled else ''}, torch {torch.__version__}")  # fmt: skip
    plain_x = x.contiguous(memory_format=torch.contiguous_format).clone()
    y = torch.from_numpy(labels)
    rng = np.random.default_rng(0)

    def both(positions: np.ndarray, seed: int, settings: TrainingSettings, ours_first: bool) -> tuple[Outcome, Outcome]:
        rows = torch.from_numpy(positions)
        sides = {
            "plain": lambda: plain(plain_x[rows], y[rows], plain_x[first:], y[first:], settings, seed),
            "ours": lambda: ours(x, labels, positions, x[first:], labels[first:], settings, seed),
        }
        order = ("ours", "plain") if ours_first else ("plain", "ours")
        outcomes = {name: sides[name]() for name in order}
        return outcomes["plain"], outcomes["ours"]

    both(np.arange(min(first, 50)), 0, replace(settings, max_epochs=2), True)  # kernels are made on first use

    print(f"{'n':>5} {'models':>6} | {'plain s':>8} {'ours s':>8} {'ratio':>6} {'per pass':>8} | "
          f"{'epochs':>13} | {'accuracy':>15} | {'scoring s':>13}")  # fmt: skip
    ratios: list[float] = []
    per_pass: list[float] = []
    differences: list[float] = []
    done: list[Outcome] = []
    for n in arguments.sizes:
        pairs = []
        for i in range(arguments.models):
            positions = np.sort(rng.choice(first, n, replace=False))
            pairs.append(both(positions, 1000 * n + i, settings, bool(i % 2)))
        p, o = zip(*pairs, strict=True)
        ratios.append(sum(run.seconds for run in p) / sum(run.seconds for run in o))
        pass_s = [sum(run.train_s for run in side) / sum(run.images_seen for run in side) for side in (p, o)]
        per_pass.append(pass_s[0] / pass_s[1])
        differences += [100 * (b.accuracy - a.accuracy) for a, b in pairs]
        done += o
        both_s, epochs, accuracy, score_s = (
            [mean([getattr(run, key) for run in side]) for side in (p, o)]
            for key in ("seconds", "epochs", "accuracy", "score_s")
        )
        print(f"{n:>5} {arguments.models:>6} | {both_s[0]:>8.3f} {both_s[1]:>8.3f} "
              f"{ratios[-1]:>6.2f} {per_pass[-1]:>8.2f} | {epochs[0]:>6.1f} {epochs[1]:>6.1f} | "
              f"{accuracy[0]:>7.4f} {accuracy[1]:>7.4f} | {score_s[0]:>6.3f} {score_s[1]:>6.3f}")  # fmt: skip

    ratio, pass_ratio = (float(np.exp(np.mean(np.log(values)))) for values in (ratios, per_pass))
    error = float(np.std(differences, ddof=1) / np.sqrt(len(differences))) if differences[1:] else 0.0
    print(f"models per CPU-second, ours / plain: {ratio:.2f} (per image pass of training {pass_ratio:.2f}); "
          f"accuracy {mean(differences):+.2f} points, standard error {error:.2f}")  # fmt: skip

    defined, weights = flops(shape, 10), sum(p.numel() for p in PlainNet(shape, 10).parameters())
    gflops, copy = machine(settings.precision, 3 * weights)
    done_flops = tiled_flops(shape, 10) if compiled and settings.precision == "float32" else defined
    # A step reads each weight forward, and weight and moments backward, and writes these three back.
    adam_bytes = 7 * 4 * weights
    steps = sum(run.epochs * -(-(run.images_seen // run.epochs) // settings.batch_size) for run in done)
    step_ms = 1e3 * sum(run.train_s for run in done) / steps
    images = sum(run.images_seen for run in done) / steps
    products_ms, adam_ms = 1e3 * images * done_flops / gflops / 1e9, 1e3 * adam_bytes / copy / 1e9
    print(f"roofline: {defined / 1e6:.1f} MFLOP per image forward and backward by definition, "
          f"{done_flops / 1e6:.1f} as computed; a step of {images:.1f} images is {products_ms:.1f} ms of products at "
          f"the {gflops:.0f} GFLOP/s of a large {settings.precision} product and {adam_ms:.1f} ms for "
          f"the {adam_bytes / 1e6:.1f} MB of Adam at the {copy:.0f} GB/s of a copy of them, "
          f"{100 * (products_ms + adam_ms) / step_ms:.0f} % of the {step_ms:.1f} ms measured")  # fmt: skip
    if arguments.json:
        print(json.dumps({
            "benchmark": "utility_samples", "precision": settings.precision, "compiled": compiled, "ratio": ratio,
            "ratio_per_pass": pass_ratio, "accuracy_difference_points": mean(differences),
            "accuracy_difference_standard_error": error, "sizes": arguments.sizes, "ratios": ratios,
            "gflops_product": gflops, "step_ms": step_ms, "roofline_ms": products_ms + adam_ms,
        }))  # fmt: skip


if __name__ == "__main__":
    main()
