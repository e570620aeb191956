"""The section `round`: which round of annotation a run is, and what it goes on from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rambo_ray.config.section import Count, Section


class RoundConfig(Section):
    """Which round of annotation this is, and the round before it."""

    number: Count = Field(1, description="1, or one more than the round that this one goes on from")
    after: str | None = Field(
        None,
        description="output directory of the round before: what was bought there joins S_0, and the pool is without it",
    )
    answers: Literal["annotations", "revealed"] = Field(
        "annotations",
        description="where the answers to the round before are. annotations: its annotations.parquet, which rambo "
        "labels writes; revealed: the labels that a benchmark hides",
    )

    @model_validator(mode="after")
    def _after_the_first(self) -> RoundConfig:
        if self.number > 1 and self.after is None:
            raise ValueError(
                f"round.number={self.number}: goes on from another round; set round.after to its output directory"
            )
        if self.number == 1 and self.after is not None:
            raise ValueError(f"round.after={self.after}: round 1 goes on from none; set round.number=2 or more")
        return self
