"""What a configuration leaves open and the data decide."""

from __future__ import annotations

from rambo_ray.config import loading
from rambo_ray.config.schema import Config, is_head
from rambo_ray.data.problem import Problem
from rambo_ray.errors import UserError

MOST_COMPONENTS = 1024  # of embeddings that are given, unless classifier.components says so


def made(config: Config, problem: Problem) -> tuple[Config, list[str]]:
    """`config` with what follows from the data where it is not set, and a line for each choice.

    Embeddings get the linear head, as no network can see them. Raises UserError where the whole does not fit then.
    """
    lines: list[str] = []
    values: dict[str, object] = {}
    if problem.of_vectors and "name" not in config.classifier.model_fields_set:
        values["classifier.name"] = "linear"
        lines.append(
            f"classifier.name=linear: the data are embeddings of {problem.labeled.described}, and f is a head on them"
        )
    classifier = config.classifier
    if problem.of_vectors and "components" not in classifier.model_fields_set:
        width = problem.shape[0]
        # A transport distance between sets takes time with the cube of it.
        if width > classifier.components and config.utility_samples.source == "mock_rounds":
            values["classifier.components"] = min(width, MOST_COMPONENTS)
            lines.append(
                f"classifier.components={values['classifier.components']}: of the {width} numbers; fewer are faster"
            )
    if values:
        config = loading.parse(loading.with_keys(config.model_dump(exclude_unset=True), values))
    return config, lines


def check_head(config: Config) -> None:
    """Raise UserError where f is a network of images, but the data are embeddings."""
    name = config.classifier.name
    if not is_head(name):
        raise UserError(
            f"classifier.name={name}: sees images, but the data are embeddings; set classifier.name=linear or mlp"
        )
