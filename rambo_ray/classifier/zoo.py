"""Networks of torchvision and timm as f, by name: `torchvision:resnet50`, `timm:convnext_atto`.

They start from their library's own initialisation, never from trained weights: f is trained from scratch on every
set, and a utility is what that set taught it. For trained weights take a head on embeddings.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

from rambo_ray.errors import UserError, nearest
from rambo_ray.own.digest import version

TORCHVISION, TIMM = "torchvision:", "timm:"
PREFIXES = (TORCHVISION, TIMM)


def source(name: str) -> str:
    """By what a name's network is known beside the name: the library's version. Raises as `factory`."""
    factory(name)
    library = name.partition(":")[0]
    return f"{library} {version(library).partition('+')[0]}"  # without +cu130: the network is the same


def factory(name: str) -> Callable[[tuple[int, int, int], int], nn.Module]:
    """What makes the network `name` for images (C, H, W) and K classes.

    Raises UserError, in one line, for a network that the library does not have, and where timm is not installed.
    """
    return _of_torchvision(name) if name.startswith(TORCHVISION) else _of_timm(name)


def _of_torchvision(name: str) -> Callable[[tuple[int, int, int], int], nn.Module]:
    from torchvision import models

    wanted = name.removeprefix(TORCHVISION)
    known = models.list_models(module=models)  # of whole images: no detectors, no videos
    if wanted not in known:
        raise UserError(f"classifier.name={name}: torchvision has no such classifier; {nearest(wanted, known)}")

    def build(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        if image_shape[0] != 3:
            raise UserError(f"classifier.name={name}: torchvision's networks take colour images; set data.channels=3")
        asked: dict[str, Any] = {"weights": None, "num_classes": num_classes}
        if "inception" in wanted or "googlenet" in wanted:  # in training these answer with further logits
            asked |= {"aux_logits": False, "init_weights": True}
        if wanted.startswith("vit_"):
            asked["image_size"] = _square(name, image_shape)
        return models.get_model(wanted, **asked)

    return build


def _of_timm(name: str) -> Callable[[tuple[int, int, int], int], nn.Module]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import timm
    except ImportError as error:
        raise UserError(f"classifier.name={name}: timm is not installed; pip install timm") from error
    wanted = name.removeprefix(TIMM)
    if not timm.is_model(wanted):
        raise UserError(f"classifier.name={name}: timm has no such network; {nearest(wanted, timm.list_models())}")

    def build(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        asked: dict[str, Any] = {"pretrained": False, "num_classes": num_classes, "in_chans": image_shape[0]}
        try:
            return timm.create_model(wanted, img_size=image_shape[1:], **asked)
        except TypeError:  # a convolutional network, which takes images of any size
            return timm.create_model(wanted, **asked)

    return build


def _square(name: str, image_shape: tuple[int, int, int]) -> int:
    _, height, width = image_shape
    if height != width:
        raise UserError(f"classifier.name={name}: takes square images, not {width}x{height}; set data.image_size")
    return height
