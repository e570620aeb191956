"""The two convolutions of MnistNet and its max-pool with a quarter of the multiplications.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray 2016) computes a 4x4 tile of a 3x3
convolution from the 6x6 inputs under it with 36 products instead of 144:

    Y = A' [ (G w G') * (B' d B) ] A,    * elementwise, ' the transpose

Summed over input channels, the elementwise products of many tiles are 36 matrix products, and each
of the three transforms, here as a Kronecker product of its matrix with itself, is one more: all of
it is what a CPU's matrix product does at its peak. Exact but for rounding (about 1e-6 of the
largest value in float32), and so are its gradients, which are the same products transposed: where
two values under a window of the pool are closer than that, either may be the one that has it.

Everything between the pixels and the pooled map stays in tiles. Tiles overlap by two, so conv1 is
computed 2.25 times over (it is cheap), and nothing has to be gathered from or added up into a map;
as conv1 is the first layer, its weights' gradient is a sum over tiles too.

Letters: n images of a batch, C channels, H x W pixels, t x u tiles, T = n t u tiles of the batch,
p x q pooled positions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# The points at which polynomials are multiplied, besides infinity. As the transforms are matrix
# products here, points need not be small integers: these lose four times less to rounding than the
# usual 0, 1, -1, 2, -2, and only about four times as much as a plain convolution.
POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))


def transforms(points: tuple[float, ...] = POINTS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B' [6, 6], G [6, 3] and A' [4, 6] of F(4, 3): y = A' ((G w) * (B' d)) for 4 outputs of 3 weights.

    Toom and Cook's multiplication of polynomials by their values at points, transposed.
    """
    inputs, filters, outputs = np.zeros((6, 6)), np.zeros((6, 3)), np.zeros((4, 6))
    for i, point in enumerate(points):
        others = [other for other in points if other != point]
        inputs[i, :5] = np.poly(others)[::-1]
        filters[i] = point ** np.arange(3) / np.prod([point - other for other in others])
        outputs[:, i] = point ** np.arange(4)
    # Infinity, which takes the leading coefficients.
    inputs[5], filters[5, 2], outputs[3, 5] = np.poly(points)[::-1], 1, 1
    return inputs, filters, outputs


# Of both axes of a square at once: 36 x 36, 36 x 9, 16 x 36.
INPUT, FILTER, OUTPUT = (torch.tensor(np.kron(matrix, matrix), dtype=torch.float32) for matrix in transforms())
UNITS = (32, 64)  # of conv1 and conv2


class TiledConvolutions:
    """conv1, ReLU, conv2 (without its bias) and 2x2 max-pool of batches of n images, on one CPU thread or more.

    The bias of conv2 is left to the caller: it is the same everywhere, so it can wait until after
    the pool, where it has a quarter to do. All large arrays are made once and used for every batch.
    """

    def __init__(self, image_shape: tuple[int, int, int], n: int) -> None:
        channels, height, width = image_shape
        self.pooled = ((height - 4) // 2, (width - 4) // 2)
        t, u = (-(-side // 2) for side in self.pooled)
        self.grid = (n, t, u)
        # A tile looks at 8 pixels; where tiles do not divide the image, zeros fill the last ones up,
        # and what they give is cut off.
        self.padded = torch.zeros(n, max(4 * t + 4, height), max(4 * u + 4, width), channels)
        self.pixels = self.padded[:, :height, :width]
        count, (first, second) = n * t * u, UNITS
        self.windows = torch.empty(channels, 8, 8, count)
        self.patches = torch.ones(channels * 9 + 1, 36 * count)  # the last row meets the bias of conv1
        self.hidden = torch.empty(36 * count, first)
        self.inputs = torch.empty(36, count, first)
        self.products = torch.empty(36, count, second)
        # A tile's 4x4 outputs by pooled row, row under it, pooled column, column under it.
        self.outputs = torch.empty(2, 2, 2, 2, count * second)
        self.maxima = torch.empty(3, 2, 2, count * second)  # of upper pairs, of lower ones, of both
        self.map = torch.empty(n, t, 2, u, 2, second)
        self.filters = torch.empty(36, first, second)

    def forward(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Pooled outputs [n, p, q, 64], a view that the next call overwrites.

        x is float32 [n, H, W, C], first [9 C + 1, 32] conv1's weights by channel, row and column and
        its bias, second [9, 32, 64] conv2's by row and column.
        """
        self.pixels.copy_(x)
        self._cut_patches()
        torch.mm(self.patches.t(), first, out=self.hidden).clamp_min_(0)
        torch.mm(FILTER, second.view(9, -1), out=self.filters.view(36, -1))
        torch.mm(INPUT, self.hidden.view(36, -1), out=self.inputs.view(36, -1))
        torch.bmm(self.inputs, self.filters, out=self.products)
        torch.mm(OUTPUT, self.products.view(36, -1), out=self.outputs.view(16, -1))
        upper_left, upper_right, lower_left, lower_right = self._quarters()
        upper, lower, pooled = self.maxima
        torch.maximum(upper_left, upper_right, out=upper)
        torch.maximum(lower_left, lower_right, out=lower)
        torch.maximum(upper, lower, out=pooled)
        self.map.copy_(self._by_tile(pooled))
        return self._cropped()

    def backward(self, gradient: Tensor, first: Tensor, second: Tensor) -> None:
        """Write the gradients of both weights into first and second, of shapes as in `forward`.

        gradient [n, p, q, 64] is that of the last forward's outputs. To be called once after it. Of
        equal values under a window, the first one has the gradient, as in torch's pool.
        """
        if self._cropped().shape != self._whole().shape:
            self.map.zero_()
        self._cropped().copy_(gradient)
        upper, lower, pooled = self.maxima
        upper_left, upper_right, lower_left, lower_right = self._quarters()
        torch.sub(lower, upper, out=lower)
        self._by_tile(pooled).copy_(self.map)
        _split(pooled, lower, upper)
        upper_right.sub_(upper_left)
        _split(upper, upper_right, upper_left)
        lower_right.sub_(lower_left)
        _split(lower, lower_right, lower_left)

        torch.mm(OUTPUT.t(), self.outputs.view(16, -1), out=self.products.view(36, -1))
        of_filters = torch.bmm(self.inputs.transpose(1, 2), self.products)
        torch.mm(FILTER.t(), of_filters.view(36, -1), out=second.view(9, -1))
        torch.bmm(self.products, self.filters.transpose(1, 2), out=self.inputs)
        of_hidden = self.products.view(-1)[: self.hidden.numel()].view(self.hidden.shape)
        torch.mm(INPUT.t(), self.inputs.view(36, -1), out=of_hidden.view(36, -1))
        where_positive(of_hidden, self.hidden, of_hidden)
        torch.mm(self.patches, of_hidden, out=first)

    def _cut_patches(self) -> None:
        """The 3x3 pixels under every input of every tile, [C 3 3, 36 T] by row and column in the tile."""
        n, height, width, channels = self.padded.shape
        _, t, u = self.grid
        windows = self.padded.as_strided(
            (channels, 8, 8, n, t, u),
            (1, width * channels, channels, height * width * channels, 4 * width * channels, 4 * channels),
        )
        self.windows.view(channels, 8, 8, n, t, u).copy_(windows)
        count = self.windows.shape[3]
        under = self.windows.as_strided(
            (channels, 3, 3, 6, 6, count), (64 * count, 8 * count, count, 8 * count, count, 1)
        )
        self.patches[:-1].view(channels, 3, 3, 6, 6, count).copy_(under)

    def _quarters(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What lies upper left, upper right, lower left and lower right under the windows of the pool."""
        y = self.outputs
        return y[:, 0, :, 0], y[:, 0, :, 1], y[:, 1, :, 0], y[:, 1, :, 1]

    def _by_tile(self, pooled: Tensor) -> Tensor:
        """Pooled values by place in the tile, seen in the order of the map."""
        return pooled.view(2, 2, *self.grid, UNITS[1]).permute(2, 3, 0, 4, 1, 5)

    def _whole(self) -> Tensor:
        n, t, u = self.grid
        return self.map.view(n, 2 * t, 2 * u, UNITS[1])

    def _cropped(self) -> Tensor:
        p, q = self.pooled
        return self._whole()[:, :p, :q]


def where_positive(values: Tensor, sign: Tensor, out: Tensor) -> Tensor:
    """values where sign > 0, and 0 elsewhere, in out, which may be either; torch.where is ten times slower."""
    return torch.ops.aten.threshold_backward.grad_input(values, sign, 0.0, grad_input=out)  # type: ignore[no-any-return]


def _split(gradient: Tensor, second: Tensor, first: Tensor) -> None:
    """The gradient of a maximum of two, from what the second exceeds the first by: each one's share, in place."""
    where_positive(gradient, second, second)
    torch.sub(gradient, second, out=first)
