"""What S_val cannot judge is refused, or said before the run."""

from __future__ import annotations

import numpy as np
import pytest

from rambo_ray.config import loading
from rambo_ray.data import datasets
from rambo_ray.errors import UserError
from rambo_ray.pipeline import judging, plan
from rambo_ray.utility_model.quadratic import QuadraticModel
from rambo_ray.utility_samples.sampling import Measurement, UtilitySample

from .made_problems import own, problem


def said(validation: list[int], *overrides: str) -> list[str]:
    """What a plan says of S_val: what it says of the defaults left out."""
    sizes = ["acquisition.budget=5", "acquisition.batch_size=5", "acquisition.margin_pool=20"]
    lines = plan.make(own(*sizes, *overrides), problem(60, validation, 20)).said
    return [line for line in lines if line.startswith("data.validation") or "tell u_hat from chance" in line]


class TestRefused:
    @pytest.mark.parametrize("method", ["mock_rounds", "paper"])
    @pytest.mark.parametrize(("validation", "what"), [([1], "its one image is"), ([1] * 40, "all of its 40 are")])
    def test_one_class(self, method: str, validation: list[int], what: str) -> None:
        with pytest.raises(UserError, match=f"^data.validation=b: {what} of class 'b': .*; give validation images"):
            said(validation, f"method={method}")

    def test_too_few_to_play(self) -> None:
        with pytest.raises(UserError, match="^data.validation=b: 5 images are too few to play mock rounds with; give"):
            said([0, 1, 2, 0, 1])
        assert said([0, 1, 2, 0, 1], "method=paper") == []

    def test_a_benchmark_s_key_is_named(self) -> None:
        config = loading.load(None, ["data.num_validation=3"])
        with pytest.raises(UserError, match=r"^data.num_validation=3: 3 images are too few"):
            plan.make(config, datasets.load(config.data, 0)[0])


class TestSaid:
    @pytest.mark.parametrize("method", ["mock_rounds", "paper"])
    def test_nothing_of_a_good_one(self, method: str) -> None:
        assert said([0, 1, 2] * 20, f"method={method}") == []

    @pytest.mark.parametrize("method", ["mock_rounds", "paper"])
    def test_classes_that_are_absent(self, method: str) -> None:
        (line,) = said([0, 2] * 20, f"method={method}")
        assert line.startswith("data.validation=b: has no image of 'b': its accuracy does not count them")

    def test_a_class_of_one_image(self) -> None:
        (line,) = said([0, 2] * 20 + [1])
        assert "a single image of 'b': only one half of S_val can judge of it" in line

    @pytest.mark.parametrize("count", [1, 8])
    def test_too_few_held_out_to_beat_chance(self, count: int) -> None:
        (line,) = said([0, 1, 2] * 20, f"utility_samples.num_held_out={count}")
        assert line.startswith(f"utility_samples.num_held_out={count}: {count} different mock rounds are too few")
        assert line.endswith("will follow the margin filter; set 9 or more, or 0 to follow u_hat unjudged")

    @pytest.mark.parametrize("count", [0, 9, 40])
    def test_none_or_enough(self, count: int) -> None:
        assert said([0, 1, 2] * 20, f"utility_samples.num_held_out={count}") == []
        assert said([0, 1, 2] * 20, f"utility_samples.num_held_out={count}", "method=paper") == []

    def test_an_s_val_that_has_too_few_rounds(self) -> None:
        (line,) = said([0, 0, 1, 1, 2, 2])
        assert "2 different mock rounds are too few" in line and line.endswith("give more than 6 validation images")


def test_a_set_that_was_drawn_twice_is_judged_once() -> None:
    """Else its score and utility, equal both times, would look like agreement."""
    model = QuadraticModel(np.ones(1), np.zeros(1), np.eye(2), 0.0, (0.0, 0.0), 1.0, 0.0)
    nothing = Measurement(0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 1, 1, 1.0)
    sets = [(0, 1), (1, 2), (0, 1), (0, 2), (0, 1)]
    samples = [UtilitySample(str(i), -1, -1, "retrained", s, nothing, 0.1 * sum(s)) for i, s in enumerate(sets)]
    todo = plan.make(own(), problem(60, [0, 1, 2] * 20, 600))
    assert todo.mock_pool is not None
    rounds = [
        UtilitySample(s.sample_id, -1, -1, "retrained", tuple(range(60)) + tuple(60 + i for i in s.indices),
                      s.measurement, s.utility, fold=0)
        for s in samples
    ]  # fmt: skip
    found = judging.held_out(rounds, model, np.arange(60.0)[:, None], todo.mock_pool, of_evidence=True)
    assert found.utilities.tolist() == pytest.approx([0.1, 0.3, 0.2]) and found.groups == ((0, 62),) * 3
