"""What is said of u_hat's ranking: the words follow from the band of chance, and from what the run did."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from rambo_ray.config.schema import Config
from rambo_ray.pipeline import judging
from rambo_ray.report.reading import Judgement, signed
from rambo_ray.utility_model.ranking import HeldOut

ROUNDS = Config.model_validate({})
PAPER = Config.model_validate({"method": "paper"})


def judged(config: Config = ROUNDS, *, followed: bool = True, **ranking: Any) -> Judgement:
    known: dict[str, Any] = {
        "held_out_pairwise_accuracy": 0.73,
        "held_out_subsets": 40,
        "held_out_chance": [0.38, 0.62],
        "held_out_by_size": {"350": 0.7, "400": 0.75},
        "held_out_gain": 0.0051,
        "held_out_best_gain": 0.0094,
    }
    metrics = {"ranking": {**known, **ranking}, "sizes": {"k": 200, "pool": 9000}, "u_hat_followed": followed}
    return Judgement.of(metrics, config)


def test_a_good_ranking_in_one_sentence() -> None:
    assert judged().sentence("u_hat") == (
        "On 40 held-out mock rounds of 350 to 400 images u_hat puts 73 % of pairs in the right order (chance: 38 to "
        "62 %); the round it ranks first is worth 0.5 points more than the average, the best 0.9."
    )
    assert judged().phrase() == "better than chance, which is 38 to 62 %"


def test_the_papers_subsets_have_one_size() -> None:
    assert judged(PAPER, held_out_by_size={"150": 0.7}).sentence().startswith("On 40 held-out subsets of 150 images û")


def test_a_round_is_as_large_as_what_it_buys() -> None:
    network = {"utility_model": {"architecture": "network", "features": "pixels"}}
    config = Config.model_validate(network)
    assert "rounds of 35 to 40 images" in judged(config, held_out_by_size={"240": 0.7, "235": 0.75}).sentence()


def test_at_chance_the_filter_is_followed_and_the_sentence_says_so() -> None:
    said = judged(held_out_pairwise_accuracy=0.55, followed=False).sentence()
    assert said.endswith(
        "in the right order, not told apart from chance (38 to 62 %), so the run follows the margin filter: in each "
        "step a random batch of the 5,000 smallest margins."
    )
    assert "points" not in said
    unjudged = judged(held_out_pairwise_accuracy=None, followed=False).sentence()
    assert "no two held-out mock rounds can be compared, so the run follows the margin filter" in unjudged


def test_the_papers_u_hat_is_followed_even_then() -> None:
    said = judged(PAPER, held_out_pairwise_accuracy=0.55).sentence()
    assert said.endswith(
        "not told apart from chance (38 to 62 %): expect no more from its choice than from any images of small margin."
    )


@pytest.mark.parametrize(
    ("accuracy", "count", "phrase"),
    [
        (0.621, 40, "better than chance, which is 38.0 to 62.0 %"),  # the words tell apart what the numbers do
        (0.62, 40, "not told apart from chance"),
        (0.38, 40, "not told apart from chance"),
        (0.37, 40, "worse than chance"),
        (None, 1, "not judged: fewer than two mock rounds were held out"),
        (float("nan"), 40, "not judged: no two held-out mock rounds can be compared"),
    ],
)
def test_verdicts(accuracy: float | None, count: int, phrase: str) -> None:
    assert judged(held_out_pairwise_accuracy=accuracy, held_out_subsets=count).phrase().startswith(phrase)


def test_pairs_that_tie_do_not_count_and_are_told() -> None:
    tied = judged(held_out_pairs=14, held_out_tied_pairs=31)
    assert "puts 73 % of the 14 pairs whose utilities differ (31 tie) in the right order (chance" in tied.sentence()
    assert tied.phrase() == "better than chance, which is 38 to 62 %; 31 of 45 pairs tie"
    assert "73 % of pairs in" in judged(held_out_pairs=45, held_out_tied_pairs=0).sentence()
    one = judged(held_out_pairs=1, held_out_tied_pairs=44, held_out_pairwise_accuracy=1.0, held_out_chance=[0.0, 1.0])
    assert (
        "puts 100 % of the one pair whose utilities differ (44 tie) in the right order, not told apart from chance, by "
        "which all of so few may be right (0 to 100 %)"
    ) in one.sentence()
    none = judged(
        held_out_pairs=0, held_out_tied_pairs=45, held_out_pairwise_accuracy=None, held_out_chance=None, followed=False
    )
    assert none.phrase() == "not judged: all held-out mock rounds that can be compared are worth the same"
    assert "worth the same, so the run follows the margin filter" in none.sentence()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [1, 2, 4, 1000])
def test_words_and_the_way_a_run_goes_hang_on_the_same_numbers(seed: int, levels: int) -> None:
    """From held-out rounds to metrics.json and back to the sentence, for rankings about as good as the band is wide."""
    generator = np.random.default_rng(seed)
    utilities = generator.integers(levels, size=20).astype(float)
    scores = utilities / levels + generator.normal(scale=0.5, size=20)
    quality = HeldOut(scores, utilities, (0, 1) * 10, (5,) * 20).quality(seed)
    stored = {
        "held_out_pairwise_accuracy": quality.pairwise_accuracy,
        "held_out_subsets": quality.subsets,
        "held_out_chance": list(quality.chance),
        "held_out_by_size": {str(size): share for size, share in quality.by_size},
        "held_out_pairs": quality.pairs,
        "held_out_tied_pairs": quality.tied,
    }
    filtered = judging.follows_filter(ROUNDS, quality)
    found = judged(followed=not filtered, **json.loads(json.dumps(stored)))
    assert filtered == (found.verdict != "better") == ("follows the margin filter" in found.sentence())
    assert (found.verdict == "unknown") == (levels == 1)


def test_numbers_of_other_utilities_and_signs() -> None:
    nats = Config.model_validate({"utility_samples": {"utility": "neg_val_loss"}})
    assert "is worth 0.005 nats less than the average, the best 0.009" in judged(nats, held_out_gain=-0.0051).sentence()
    assert [signed(x) for x in (1.25, -0.3, -0.01)] == ["+1.2", "−0.3", "0.0"]
