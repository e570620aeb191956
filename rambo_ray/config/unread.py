"""Keys that a configuration does not look at, given what its other keys say.

Setting one of them is harmless: a file may hold what only another method reads. To sweep one, or to tell two
competitors of a benchmark apart by it, would compute the same thing again and again.
"""

from __future__ import annotations

from typing import NamedTuple

from rambo_ray.config.schema import Config, is_estimator, is_head

_OF_THE_NETWORK = ("channels", "extractor_width", "phi_width", "head_width", "dropout", "objective", "lambda_ot",
                   "bilevel", "hypergradient", "hypergradient_steps", "damping", "step_size", "outer_epochs",
                   "inner_steps", "inner_learning_rate", "outer_learning_rate", "weight_decay", "shards")  # fmt: skip
_OF_TRAINING = ("learning_rate", "batch_size", "stop_accuracy", "max_epochs", "kernels")
_OF_HEADS = ("embedding", "embedding_size", "components", "embedding_cache")


class Reason(NamedTuple):
    """The key that decides, its value, and what to set for the other key to be read."""

    decides: str
    value: str
    remedy: str

    def __str__(self) -> str:
        return f"not read where {self.decides}={self.value}; {self.remedy}"


def unread(config: Config) -> dict[str, Reason]:
    """The keys that `config` does not look at, by their dotted names, and why."""
    samples, model, ask = config.utility_samples, config.utility_model, config.acquisition
    found: dict[str, Reason] = {}

    def leave_out(section: str, names: tuple[str, ...], decides: str, value: str, remedy: str) -> None:
        found.update({f"{section}.{name}": Reason(decides, value, remedy) for name in names})

    if samples.source == "mock_rounds":
        of_subsets = ("utility_samples.source", "mock_rounds", "set method=paper, or utility_samples.source=both")
        leave_out("utility_samples", ("sizes", "min_size"), *of_subsets)
        leave_out("pretraining", ("k_1", "batch_size", "tau_1", "num_interpolated"), *of_subsets)
    if samples.source == "subsets":
        leave_out("utility_samples", ("min_round", "max_round", "evidence_folds"), "utility_samples.source", "subsets",
                  "set method=mock_rounds")  # fmt: skip
    if samples.otdd_backend == "microsoft":
        leave_out("utility_samples", ("otdd_solver",), "utility_samples.otdd_backend", "microsoft",
                  "set utility_samples.otdd_backend=builtin")  # fmt: skip
    if model.architecture == "quadratic":
        leave_out("utility_model", _OF_THE_NETWORK, "utility_model.architecture", "quadratic",
                  "set method=paper, or utility_model.architecture=network")  # fmt: skip
    else:
        leave_out("acquisition", ("caution",), "utility_model.architecture", "network", "set method=mock_rounds")
    if ask.candidates in ("partition", "strategies"):
        leave_out("acquisition", ("temperatures", "draws"), "acquisition.candidates", ask.candidates,
                  "set acquisition.candidates=tilted")  # fmt: skip
    if ask.near_copies == "off":
        leave_out(
            "acquisition", ("near_distance",), "acquisition.near_copies", "off", "set acquisition.near_copies=hash"
        )
    name, remedy = config.classifier.name, "set another classifier.name"
    if name == "linear" or is_estimator(name):
        leave_out("classifier", _OF_TRAINING, "classifier.name", name, remedy)
    if name != "linear":
        leave_out("classifier", ("l2",), "classifier.name", name, "set classifier.name=linear")
    if not is_head(name):
        leave_out("classifier", _OF_HEADS, "classifier.name", name, "set classifier.name=linear")
    return found
