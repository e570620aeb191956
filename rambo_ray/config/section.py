"""What all sections of a configuration have in common, and the types of their values."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import Self

Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int | None, Field(ge=1)]
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
