"""The layers of stacked networks, forward and backward, in as few passes over memory and as few kernels as torch has.

For GPUs. A stack's step is bound by the kernels that are launched while it is small and by the bytes that are moved
once it is large, so: windows are laid side by side by one copy, sixteen bytes at a time; the gradient of a
convolution's input is a convolution, too; batch normalisation, what is added to it and ReLU are one function, which
sums in the weights' precision and keeps nothing but numbers of the products'.

Rows that fill a batch up are zero wherever batch normalisation could count them: in images and after every ReLU.
Convolutions there have no bias, so sums over all rows are sums over the images.

Letters: G models, b rows (images) of each, H x W pixels, C channels in, O out, R = b H W.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-5  # of nn.BatchNorm2d, which `classifier.networks` leaves at its default

_WIDE = ((16, torch.complex128), (8, torch.int64), (4, torch.int32))


def gathered(x: Tensor, kernel: int, stride: int = 1) -> Tensor:
    """The windows of a contiguous [G, b, H, W, C] side by side: [G, b H' W', kernel^2 C], without padding."""
    models, rows, _, _, channels = x.shape
    wide = x
    for size, kind in _WIDE if kernel > 1 or stride > 1 else ():
        if (channels * x.element_size()) % size == 0 and (x.storage_offset() * x.element_size()) % size == 0:
            wide = x.view(kind)
            break
    windows = wide.unfold(2, kernel, stride).unfold(3, kernel, stride).permute(0, 1, 2, 3, 5, 6, 4)
    height, width = windows.shape[2:4]
    return windows.reshape(models, rows * height * width, -1).view(x.dtype)


def scattered(parts: Tensor, shape: torch.Size, kernel: int, stride: int) -> Tensor:
    """What `gathered` undoes: each window's numbers [G, R', kernel^2 C] added up where they came from."""
    models, rows, height, width, channels = shape
    down, across = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    found = parts.new_zeros(shape)
    each = parts.view(models, rows, down, across, kernel * kernel, channels).unbind(4)
    for place, part in enumerate(each):
        y, x = divmod(place, kernel)
        found[:, :, y : y + stride * (down - 1) + 1 : stride, x : x + stride * (across - 1) + 1 : stride].add_(part)
    return found


class Conv(torch.autograd.Function):
    """[G, b, H, W, C] by kernels [G, kernel^2 C, O] as [G, b, H', W', O]: gathered windows times kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        padded = _padded(x, padding)
        windows = gathered(padded, kernel, stride)
        ctx.save_for_backward(windows, weight)
        ctx.geometry = padded.shape, kernel, stride, padding
        models, rows, height, width, _ = padded.shape
        down, across = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        return torch.bmm(windows, weight).view(models, rows, down, across, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        windows, weight = ctx.saved_tensors
        shape, kernel, stride, padding = ctx.geometry
        dy = gradients[0].contiguous()
        flat = dy.flatten(1, 3)
        dw = torch.bmm(windows.transpose(1, 2), flat)
        if not ctx.needs_input_grad[0]:
            return None, dw, None, None, None
        models, channels = shape[0], shape[-1]
        # Of the two ways one copies the kernels, the other adds up: whatever is smaller here.
        if stride == 1 and kernel > 1 and weight[0].numel() <= windows[0].numel():
            outputs = weight.shape[-1]
            turned = weight.reshape(models, kernel * kernel, channels, outputs).transpose(2, 3).flip(1)
            around = _padded(dy, kernel - 1 - padding)
            dx = torch.bmm(gathered(around, kernel), turned.reshape(models, -1, channels))
            inner = [size - 2 * padding for size in shape[2:4]]
            return dx.view(models, shape[1], *inner, channels), dw, None, None, None
        dx = scattered(torch.bmm(flat, weight.transpose(1, 2)), shape, kernel, stride)
        return dx[:, :, padding : shape[2] - padding, padding : shape[3] - padding], dw, None, None, None


def _padded(x: Tensor, padding: int) -> Tensor:
    return F.pad(x, (0, 0, padding, padding, padding, padding)) if padding else x.contiguous()


class Activated(torch.autograd.Function):
    """relu(x + bias) times a mask of dropout, where there is one: x [G, ..., C], bias [G, C]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        y = torch.add(x, _over(bias, x)).relu_()
        if mask is not None:
            torch.mul(y, mask, out=y)
        ctx.save_for_backward(y, mask)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        y, mask = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        if mask is not None:
            gradient = torch.mul(gradient, mask, out=torch.empty_like(gradient))
        gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        return gradient, gradient.flatten(1, -2).sum(1), None


def _over(value: Tensor, x: Tensor) -> Tensor:
    """A value per model and channel [G, C] in the shape that meets x [G, ..., C]."""
    return value.view(len(value), *[1] * (x.ndim - 2), -1)


class Batch(NamedTuple):
    """What batch normalisation must know of a batch.

    inverse [G, 1] is 1 over the numbers of one channel that are images', missing [G, 1] how many are not; places
    int64 are the rows, of all G b, that fill batches up, None where none do.
    """

    inverse: Tensor
    missing: Tensor
    places: Tensor | None

    def emptied(self, x: Tensor) -> Tensor:
        """x [G, b, ...] with zeros in the rows that fill batches up, in place."""
        if self.places is not None:
            x.flatten(0, 1).index_fill_(0, self.places, 0.0)
        return x


class Norm(torch.autograd.Function):
    """Batch normalisation of [G, b, H, W, C], then plus `other` and ReLU where wanted; and mean and variance [G, C].

    Mean and variance have no gradient. weight and bias are [G, C], in the precision of the sums.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, other: Tensor | None, batch: Batch, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        flat = x.flatten(1, 3)
        mean = flat.sum(1, dtype=weight.dtype).mul_(batch.inverse)
        if x.dtype == weight.dtype:
            squares = torch.linalg.vector_norm(flat - mean[:, None], dim=1).square_()
            var = squares.addcmul_(batch.missing, mean.square(), value=-1).mul_(batch.inverse)
        else:  # what x was rounded to is far more than what this way to sum loses, and it needs one pass less
            squares = torch.linalg.vector_norm(flat, dim=1, dtype=weight.dtype).square_()
            var = squares.mul_(batch.inverse).addcmul_(mean, mean, value=-1)
        var.clamp_(min=0)
        inverse_std = torch.rsqrt(var + EPS)
        scale = inverse_std * weight
        y = affine(flat, scale, torch.addcmul(bias, mean, scale, value=-1)).view_as(x)
        if other is not None:
            y.add_(other)
        if relu:
            batch.emptied(y.relu_())
        ctx.save_for_backward(flat, y if relu else None, mean, inverse_std, scale)
        ctx.batch = batch
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None, None, None]:
        flat, y, mean, inverse_std, scale = ctx.saved_tensors
        whole = gradients[0].contiguous()
        if y is not None:
            whole = torch.ops.aten.threshold_backward(whole, y, 0)
        g = whole.flatten(1, 3)
        of_bias = g.sum(1, dtype=scale.dtype)
        of_weight = (g * flat).sum(1, dtype=scale.dtype).addcmul_(mean, of_bias, value=-1).mul_(inverse_std)
        # dx = scale (g - mean of g - x^ mean of g x^), in which x^ is (x - mean) / std.
        share = scale * ctx.batch.inverse
        slope = (share * inverse_std).mul_(of_weight).neg_()
        dx = affine(flat, slope, torch.addcmul(share * of_bias, slope, mean).neg_())
        torch.addcmul(dx, g, scale[:, None], out=dx)
        return dx.view_as(whole), of_weight, of_bias, whole if ctx.needs_input_grad[3] else None, None, None


def affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x [G, R, C] * scale + shift, both [G, C], computed in their precision and rounded to that of x."""
    return torch.addcmul(shift[:, None], x, scale[:, None], out=torch.empty_like(x))
