"""What a run says at its end: accuracies, and in one sentence what u_hat was worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rambo_ray.cli.run import _summary
from rambo_ray.config.schema import Config
from rambo_ray.pipeline.outputs import Output


def metrics(**changed: Any) -> dict[str, Any]:
    ranking = {
        "held_out_pairwise_accuracy": 0.73,
        "held_out_subsets": 40,
        "held_out_chance": [0.38, 0.62],
        "held_out_by_size": {"350": 0.7, "400": 0.75},
        "held_out_gain": 0.0051,
        "held_out_best_gain": 0.0094,
    }
    return {
        "sizes": {"budget": 500, "k": 200, "pool": 9000},
        "seconds": {"total": 64.0},
        "accuracy_before": {"validation": 0.5, "test": 0.45},
        "accuracy_after": {"validation": 0.525, "test": 0.55},
        "u_hat_followed": True,
        "ranking": ranking | changed.pop("ranking", {}),
        **changed,
    }


def lines(tmp_path: Path, **changed: Any) -> list[str]:
    return _summary(metrics(**changed), Config.model_validate({}), Output(tmp_path)).splitlines()


def test_one_sentence_on_u_hat(tmp_path: Path) -> None:
    said = lines(tmp_path)
    assert said[:4] == [
        "",
        "500 images picked in 1 min 04 s",
        "  accuracy on S_val  0.500 -> 0.525 (+2.5 points)",
        "  accuracy on test   0.450 -> 0.550 (+10.0 points)",
    ]
    assert [line[21:] for line in said[4:7]] == [
        "On 40 held-out mock rounds of 350 to 400 images u_hat puts 73 % of pairs in the right",
        "order (chance: 38 to 62 %); the round it ranks first is worth 0.5 points more than the",
        "average, the best 0.9.",
    ]
    assert said[4].startswith("  u_hat  ") and said[5].startswith("     ")
    assert said[7].endswith(str(tmp_path / "selection.parquet")) and "\u00a0" not in "".join(said)


def test_at_chance_it_says_what_the_run_did(tmp_path: Path) -> None:
    said = " ".join(lines(tmp_path, ranking={"held_out_pairwise_accuracy": 0.5}, u_hat_followed=False))
    assert "so the run follows the margin filter" in said and "worth" not in said


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    said = "\n".join(
        lines(
            tmp_path,
            ranking={"held_out_subsets": 0},
            accuracy_before={"validation": 0.5, "test": None},
            accuracy_after=None,
        )
    )
    assert "accuracy on S_val  0.500\n" in said and "accuracy on test" not in said and "u_hat" not in said
