"""The slow, obvious training loop: what `rambo_ray.classifier.training.train` must compute, in plain steps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from rambo_ray.classifier.training import TrainingSettings


class PlainMnistNet(nn.Module):
    """MnistNet as the paper's toolkit words it: ReLU, then max-pool, everything contiguous."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, dropout: bool = True) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.conv1 = nn.Conv2d(channels, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.fc1 = nn.Linear(64 * ((height - 4) // 2) * ((width - 4) // 2), 128)
        self.fc2 = nn.Linear(128, num_classes)
        self.dropout1 = nn.Dropout2d(0.25 if dropout else 0.0)
        self.dropout2 = nn.Dropout(0.5 if dropout else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv1(x))
        x = torch.relu(self.conv2(x))
        x = self.dropout1(nn.functional.max_pool2d(x, 2))
        x = torch.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc2(self.dropout2(x))


def closest_call(relu_inputs: Tensor, pool_inputs: Tensor) -> float:
    """How near rounding comes to changing a gradient: the least |input of a ReLU|, or lead of a maximum over 2x2.

    relu_inputs of any shape, pool_inputs [n, units, H, W].
    """
    windows = pool_inputs.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    best, next_best = windows.topk(2).values.unbind(-1)
    return min(float(relu_inputs.abs().min()), float((best - next_best).min()))


def normalised(pixels: np.ndarray, settings: TrainingSettings) -> Tensor:
    """Pixels as torchvision's ToTensor and Normalize make them."""
    x = torch.tensor(np.transpose(pixels, (0, 3, 1, 2)).copy()).float() / 255
    mean = torch.tensor(settings.mean).view(1, -1, 1, 1)
    std = torch.tensor(settings.std).view(1, -1, 1, 1)
    return (x - mean) / std


def train_plainly(
    net_of: type[nn.Module] | object, pixels: np.ndarray, labels: np.ndarray, settings: TrainingSettings, seed: int
) -> tuple[nn.Module, list[float]]:
    """The paper's rule, one image batch at a time; returns the net and each epoch's accuracy.

    Draws in the order the fast loop draws in: initialisation, then per epoch the shuffle and the
    dropout of its batches.
    """
    x, y = normalised(pixels, settings).to(torch.get_default_dtype()), torch.tensor(labels)
    accuracies: list[float] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = net_of()  # type: ignore[operator]
        adam = torch.optim.Adam(net.parameters(), lr=settings.learning_rate, foreach=False)
        loss_of = nn.CrossEntropyLoss()
        for _ in range(settings.max_epochs):
            net.train()
            correct = 0
            for rows in torch.randperm(len(y)).split(settings.batch_size):
                adam.zero_grad()
                logits = net(x[rows])
                loss_of(logits, y[rows]).backward()
                adam.step()
                correct += (logits.argmax(1) == y[rows]).sum().item()
            accuracies.append(correct / len(y))
            if accuracies[-1] >= settings.stop_accuracy:
                break
    return net.eval(), accuracies
