"""What S_val can and cannot judge: said before a run, since afterwards its numbers look like any others.

Everything that u_hat knows it knows from S_val: what a purchase is worth is the accuracy there, and whether its
ranking is better than chance is tried on mock rounds that are played with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rambo_ray.config.schema import Config
from rambo_ray.data.problem import Problem
from rambo_ray.errors import UserError
from rambo_ray.utility_model import ranking
from rambo_ray.utility_samples.sampling import UtilitySample

# Of mock rounds that are no longer than the default's: with fewer images no round is shorter than half of S_val.
FEWEST = 6
_NAMES = 5  # of classes in one line


def check(config: Config, problem: Problem) -> None:
    """Raise UserError, in one line, where S_val cannot judge at all."""
    counts = _counts(problem)
    present = np.flatnonzero(counts)
    if len(present) == 1:
        images = "its one image is" if len(problem.validation) == 1 else f"all of its {len(problem.validation)} are"
        raise UserError(
            f"{_named(config, problem)}: {images} of class '{problem.class_names[present[0]]}': on one class the best "
            "classifier is the one that always answers it; give validation images of every class"
        )
    samples = config.utility_samples
    played = len(problem.validation) + (0 if problem.rejected is None else len(problem.rejected))
    if samples.source != "subsets" and samples.min_round is samples.max_round is None and played < FEWEST:
        raise UserError(
            f"{_named(config, problem)}: {played} images are too few to play mock rounds with; give at least {FEWEST}, "
            "better some hundred, or set method=paper"
        )


def warnings(config: Config, problem: Problem, held_out: Sequence[UtilitySample]) -> list[str]:
    """What a run should be told of S_val, a line each; `held_out`: the sets that u_hat will be judged on."""
    counts, name = _counts(problem), _named(config, problem)
    lines = []
    if len(absent := np.flatnonzero(counts == 0)):
        lines.append(
            f"{name}: has no image of {_classes(problem, absent)}: its accuracy does not count "
            "them, so that u_hat cannot know what their images are worth"
        )
    if config.utility_samples.source == "subsets":
        return lines
    if len(single := np.flatnonzero(counts == 1)):
        lines.append(
            f"{name}: has a single image of {_classes(problem, single)}: only one half of S_val can judge of it, the "
            "other not at all"
        )
    if config.utility_samples.source == "mock_rounds" and config.utility_samples.num_held_out:
        different = {(sample.fold, sample.indices) for sample in held_out}
        if not ranking.can_beat_chance([(fold, len(indices)) for fold, indices in different]):
            lines.append(
                f"utility_samples.num_held_out={config.utility_samples.num_held_out}: {len(different)} different mock "
                "rounds are too few to tell u_hat from chance, even if it puts all in the right order, so that the run "
                "will follow the margin filter; " + _remedy(config, problem)
            )
    return lines


def _remedy(config: Config, problem: Problem) -> str:
    samples, least = config.utility_samples, ranking.FEWEST_HELD_OUT
    if samples.num_held_out < least and "num_held_out" in samples.model_fields_set:
        return f"set {least} or more, or 0 to follow u_hat unjudged"
    return f"give more than {len(problem.validation)} validation images"


def _counts(problem: Problem) -> np.ndarray:
    return np.bincount(problem.validation.labels, minlength=len(problem.class_names))


def _named(config: Config, problem: Problem) -> str:
    """The key that decides what is in S_val, with its value."""
    if config.data.name == "own":
        return f"data.validation={config.data.validation}"
    return f"data.num_validation={len(problem.validation)}"


def _classes(problem: Problem, which: np.ndarray) -> str:
    names = [f"'{problem.class_names[i]}'" for i in which[:_NAMES]]
    more = len(which) - len(names)
    return ", ".join(names) + (f" and {more} more classes" if more else "")
