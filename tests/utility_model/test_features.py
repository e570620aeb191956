"""Which features an image has for u_hat."""

from __future__ import annotations

import pytest

from rambo_ray.config.schema import HEADS, UtilityModelConfig
from rambo_ray.errors import UserError
from rambo_ray.utility_model import features

GREY, COLOUR = (28, 28, 1), (32, 32, 3)


def asked(kind: str) -> UtilityModelConfig:
    return UtilityModelConfig.model_validate({"features": kind})


def test_auto_follows_the_papers_two_kinds_of_data() -> None:
    assert features.choose(asked("auto"), GREY) == "pixels"
    assert features.choose(asked("auto"), (29, 28, 1)) == features.choose(asked("auto"), COLOUR) == "imagenet"
    for kind in ("pixels", "classifier", "imagenet"):
        assert features.choose(asked(kind), GREY) == features.choose(asked(kind), COLOUR) == kind


@pytest.mark.parametrize("head", sorted(HEADS))
def test_u_hat_sees_what_a_head_sees(head: str) -> None:
    for kind in ("auto", "classifier"):
        assert features.choose(asked(kind), GREY, head) == features.choose(asked(kind), COLOUR, head) == "classifier"
    for kind in ("pixels", "imagenet"):
        with pytest.raises(UserError, match=rf"^utility_model.features={kind}: classifier.name={head} sees frozen"):
            features.choose(asked(kind), COLOUR, head)
