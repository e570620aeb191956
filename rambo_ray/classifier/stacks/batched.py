"""The two networks of Section 4 for G sets of weights at once, of `layers`, and where their weights lie.

All weights of a model are one row: [G, P] is one tensor for Adam, for a copy and for the rounding to bfloat16. First
come those of products, whose bytes must lie well for a GPU, then those of batch normalisation, which stay exact.
MnistNet's fc1 reads pixels by row, column and channel, as they lie here: no matter to weights that are drawn here.

Letters: G models, b rows (images) of each, H x W pixels, C channels, K classes, P weights, Q normalised channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rambo_ray.classifier.networks import build
from rambo_ray.classifier.stacks import draws, layers
from rambo_ray.classifier.stacks.networks import MOMENTUM
from rambo_ray.classifier.training import TrainingSettings

_ALIGNED = 8  # numbers: 16 bytes of bfloat16

_AT_ONCE = 2**25  # initial weights that are drawn at a time


@dataclass(frozen=True)
class Layout:
    """Where weights lie in a row, by name: shapes of products' and of norms', each in order; span of both parts.

    low and high [P] bound the initial weights, as PyTorch's default initialisation does. norms: names of the
    normalised layers, and their channels, in the order of their statistics.
    """

    products: dict[str, tuple[int, ...]]
    scales: dict[str, tuple[int, ...]]
    filled: int
    low: Tensor
    high: Tensor
    norms: dict[str, int]

    @classmethod
    def of(cls, settings: TrainingSettings) -> Layout:
        """That of the classifier of some settings."""
        with torch.device("meta"):
            model = build(settings.classifier, settings.image_shape, settings.num_classes)
        products: dict[str, tuple[int, ...]] = {}
        scales: dict[str, tuple[int, ...]] = {}
        bounds: dict[str, tuple[float, float]] = {}
        norms: dict[str, int] = {}
        for name, module in model.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                norms[name] = module.num_features
                scales |= {f"{name}.weight": (module.num_features,), f"{name}.bias": (module.num_features,)}
                bounds |= {f"{name}.weight": (1.0, 1.0), f"{name}.bias": (0.0, 0.0)}
            elif isinstance(module, nn.Conv2d | nn.Linear):
                inputs = module.weight[0].numel()
                products[f"{name}.weight"] = (inputs, len(module.weight))
                if module.bias is not None:
                    products[f"{name}.bias"] = (len(module.weight),)
                for part in ("weight", "bias"):
                    bounds[f"{name}.{part}"] = (-(inputs**-0.5), inputs**-0.5)
        products = dict(sorted(products.items(), key=lambda item: _size(item[1]) % _ALIGNED != 0))
        filled = -sum(map(_size, products.values())) % _ALIGNED
        spans = [(bounds[name], _size(shape)) for name, shape in products.items()] + [((0.0, 0.0), filled)]
        spans += [(bounds[name], _size(shape)) for name, shape in scales.items()]
        low, high = (torch.cat([torch.full((size,), bound[i]) for bound, size in spans]) for i in (0, 1))
        return cls(products, scales, filled, low, high, norms)

    def drawn(self, start: Tensor) -> Tensor:
        """Initial weights float32 [G, P] on the device of the models' streams [G], uniform within their bounds."""
        low, span = (v.to(start.device) for v in (self.low, self.high - self.low))
        places = torch.arange(len(low), device=start.device)
        made = torch.empty(len(start), len(low), device=start.device)
        step = max(1, _AT_ONCE // len(low))
        for first in range(0, len(start), step):
            numbers = draws.at(start[first : first + step, None], places)
            made[first : first + step] = torch.addcmul(low, draws.uniform(numbers), span)
        return made

    def views(self, flat: Tensor, kind: torch.dtype) -> dict[str, Tensor]:
        """Weights by name [G, ...] of rows [G, P], those of products as `kind`; gradients reach the rows."""
        exact = sum(map(_size, self.scales.values()))
        parts = [flat] if not exact else flat.split([flat.shape[1] - exact, exact], 1)
        sizes = [*map(_size, self.products.values()), *([self.filled] if self.filled else [])]
        found = zip(self.products.items(), parts[0].to(kind).split(sizes, 1), strict=False)
        named = {name: part.view(-1, *shape) for (name, shape), part in found}
        if exact:
            sizes = list(map(_size, self.scales.values()))
            named |= dict(zip(self.scales, parts[1].split(sizes, 1), strict=True))
        return named

    def statistics(self, models: int, kind: torch.dtype, device: torch.device) -> Tensor:
        """Running means and variances before training, [G, 2, Q]."""
        made = torch.zeros(models, 2, sum(self.norms.values()), dtype=kind, device=device)
        made[:, 1] = 1
        return made

    def running(self, statistics: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Those of each layer by name: mean and variance [G, C]."""
        parts = statistics.split(list(self.norms.values()), 2) if self.norms else ()
        return {name: (part[:, 0], part[:, 1]) for name, part in zip(self.norms, parts, strict=True)}


def _size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


@dataclass
class Pass:
    """One forward pass: weights by name, and, in train mode, how many rows of each model are images.

    real [G] says how many, places which of all G b rows are not (None: all are); masks of dropout are float
    [G, b, units]. In eval mode `running` has the statistics, and all rows are images. `found` collects a batch's
    mean and unbiased variance per layer.
    """

    weights: Mapping[str, Tensor]
    running: Mapping[str, tuple[Tensor, Tensor]] | None = None
    real: Tensor | None = None
    places: Tensor | None = None
    masks: tuple[Tensor, ...] = ()
    found: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _batches: dict[int, tuple[layers.Batch, Tensor]] = field(default_factory=dict)

    def conv(self, name: str, x: Tensor, kernel: int = 3, stride: int = 1, padding: int = 0) -> Tensor:
        """[G, b, H, W, C] -> [G, b, H', W', O], without bias."""
        return layers.Conv.apply(x, self.weights[f"{name}.weight"], kernel, stride, padding)

    def activated(self, name: str, x: Tensor, mask: int | None = None) -> Tensor:
        """relu(x + bias of the layer), and dropout in train mode: of units, or of channels."""
        chosen = self.masks[mask] if mask is not None and self.masks else None
        if chosen is not None and x.ndim == 5:
            chosen = chosen[:, :, None, None]
        return layers.Activated.apply(x, self.weights[f"{name}.bias"], chosen)

    def product(self, name: str, x: Tensor) -> Tensor:
        """[G, b, C] -> [G, b, O], without bias."""
        return torch.bmm(x, self.weights[f"{name}.weight"])

    def linear(self, name: str, x: Tensor) -> Tensor:
        """[G, b, C] -> [G, b, O]."""
        return torch.baddbmm(self.weights[f"{name}.bias"][:, None], x, self.weights[f"{name}.weight"])

    def norm(self, name: str, x: Tensor, other: Tensor | None = None, relu: bool = True) -> Tensor:
        """Batch normalisation of [G, b, H, W, C], plus `other`, and ReLU."""
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        if self.running is not None:
            mean, var = self.running[name]
            scale = torch.rsqrt(var + layers.EPS) * weight
            y = layers.affine(x.flatten(1, 3), scale, torch.addcmul(bias, mean, scale, value=-1)).view_as(x)
            y = y if other is None else y.add_(other)
            return y.relu_() if relu else y
        batch, unbias = self._batch(x)
        y, mean, var = layers.Norm.apply(x, weight, bias, other, batch, relu)
        self.found[name] = mean, var * unbias
        return y

    def _batch(self, x: Tensor) -> tuple[layers.Batch, Tensor]:
        """What normalising x needs to know, and n / (n - 1), [G, 1]; the same for all layers of that many pixels."""
        pixels = x.shape[2] * x.shape[3]
        if pixels not in self._batches:
            assert self.real is not None
            count = (self.real * pixels)[:, None]
            batch = layers.Batch(count.reciprocal(), x.shape[1] * pixels - count, self.places)
            self._batches[pixels] = batch, count / (count - 1)
        return self._batches[pixels]

    def update(self, layout: Layout, statistics: Tensor) -> None:
        """Let running statistics [G, 2, Q] follow those of the batch."""
        if self.found:
            new = [torch.cat([self.found[name][i] for name in layout.norms], 1) for i in (0, 1)]
            statistics.lerp_(torch.stack(new, 1), MOMENTUM)


def _mnist_net(p: Pass, x: Tensor) -> Tensor:
    models, rows = x.shape[:2]
    x = p.conv("conv2", p.activated("conv1", p.conv("conv1", x)))
    # What is the same for a whole channel commutes with the maximum; after the pool there is a quarter to do.
    x = F.max_pool2d(x.flatten(0, 1).permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1).unflatten(0, (models, rows))
    x = p.activated("conv2", x, mask=0)
    x = p.activated("fc1", p.product("fc1", x.reshape(models, rows, -1)), mask=1)
    return p.linear("fc2", x)


def _resnet18(p: Pass, x: Tensor) -> Tensor:
    x = p.norm("norm1", p.conv("conv1", x, padding=1))
    for number in range(8):
        block = f"blocks.{number}"
        stride = 2 if number in (2, 4, 6) else 1
        y = p.norm(f"{block}.norm1", p.conv(f"{block}.conv1", x, 3, stride, 1))
        y = p.conv(f"{block}.conv2", y, padding=1)
        if stride == 2:
            x = p.norm(f"{block}.shortcut.1", p.conv(f"{block}.shortcut.0", x, 1, stride), relu=False)
        x = p.norm(f"{block}.norm2", y, other=x)
    return p.linear("fc", x.mean((2, 3)))


BATCHED = {"mnist_net": _mnist_net, "resnet18": _resnet18}
