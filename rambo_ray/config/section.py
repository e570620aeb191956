"""What all sections of a configuration have in common, and the types of their values."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import Self

# Far beyond what anybody can mean: a number that only slipped must not take the machine's memory, or never end.
MOST = 1_000_000_000
Count = Annotated[int, Field(ge=1, le=MOST)]
CountOrNone = Annotated[int | None, Field(ge=1, le=MOST)]
CountOrZero = Annotated[int, Field(ge=0, le=MOST)]
Two = Annotated[int, Field(ge=2, le=MOST)]
Drawn = Annotated[int, Field(ge=0, le=1_000_000)]  # sets are drawn before anything is computed, 40 us each
Repeats = Annotated[int, Field(ge=1, le=10_000)]
Units = Annotated[int, Field(ge=1, le=65_536)]  # of a layer
Side = Annotated[int, Field(ge=32, le=16_384)]  # of an image, in pixels
SideOrNone = Annotated[int | None, Field(ge=1, le=1_000_000)]  # what fits into memory is checked apart
Workers = Annotated[int, Field(ge=1, le=100_000)]
WorkersOrNone = Annotated[int | None, Field(ge=1, le=100_000)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
SeedOrNone = Annotated[int | None, Field(ge=0, le=2**63 - 1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """Keys are fixed, values are never coerced, and a configuration never changes once made.

    `model_fields_set` names the keys that somebody has set; defaults that follow from other keys are not among them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def unset(self, *names: str) -> Self:
        """This section, in which the keys `names` have their values as defaults, not as something that was set."""
        self.__pydantic_fields_set__.difference_update(names)
        return self
