"""What is said of data that cannot be read."""

from __future__ import annotations

import pytest

from rambo_ray.config.schema import DataConfig
from rambo_ray.data.datasets import load
from rambo_ray.errors import UserError


def refusal(data: DataConfig) -> str:
    """The one line in which a configuration's data is refused."""
    with pytest.raises(UserError) as error:
        load(data, 0)
    line = str(error.value)
    assert "\n" not in line
    return line
