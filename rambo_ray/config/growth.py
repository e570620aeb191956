"""The sections of how labelled sets grow: S_0 in pretraining, and the B images that are acquired.

They are sections as those in `rambo_ray.config.sections`; a default of theirs may follow from another key or from the
data (`rambo_ray.pipeline.fitted`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ModelWrapValidatorHandler, field_serializer, field_validator, model_validator
from typing_extensions import Self

from rambo_ray.config.section import Count, CountOrNone, Drawn, NonNegative, Positive, Repeats, Section, Two
from rambo_ray.errors import nearest

# Who picks: RAMBO, its margin filter alone, published strategies, and rules that look at S_val's labels.
STRATEGY_NAMES = ("rambo", "margin_m_random", "random", "margin", "entropy", "least_confidence", "badge", "coreset",
                  "glister", "cluster_margin", "typiclust", "probcover", "uncertainty_herding", "min_margin",
                  "margin_m_balanced", "posterior_balance", "margin_accepted")  # fmt: skip

PositiveOrNone = Annotated[float | None, Field(gt=0)]


class PretrainingConfig(Section):
    """How S_0 is grown from k_1 to k in tau_1 iterations (Fig. 2, lines 4 to 14)."""

    k_1: Two = Field(
        50, description="k_1, images in the first labelled set; where not set, at most a quarter of few labels"
    )
    batch_size: CountOrNone = Field(None, description="b, images added per iteration; default: from tau_1, or 50")
    tau_1: CountOrNone = Field(None, description="tau_1, iterations; default: (k - k_1) / b, rounded up")
    num_interpolated: Drawn = Field(50, description="n, interpolated pairs per iteration")


class AcquisitionConfig(Section):
    """What is acquired, and how candidates are made (Fig. 2, lines 15 to 26)."""

    strategy: str = Field(
        "rambo",
        description="who picks: rambo; margin_m_random, its margin filter without u_hat; random; margin, entropy, "
        "least_confidence, badge, coreset, glister, cluster_margin, typiclust, probcover, uncertainty_herding, "
        "min_margin: published strategies; margin_m_balanced, posterior_balance, margin_accepted: rules of even "
        "classes, and without what was rejected; or package.module:function of your own",
    )
    budget: Count = Field(500, description="B, images to send to the annotators")
    batch_size: Count = Field(50, description="b, images per candidate batch; where not set, no more than B and M")
    margin_pool: Count = Field(5000, description="M, smallest margins a step chooses from")
    candidates: Literal["partition", "tilted", "strategies", "mixed"] = Field(
        "tilted",
        description="partition: a random division into batches, the paper's; tilted: batches drawn along u_hat's "
        "slope; strategies: the next batch of each baseline; mixed: all of these",
    )
    temperatures: Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        (0.25, 0.5, 1.0, 2.0), description="tilted: how strictly batches follow the slope; small: strictly"
    )
    draws: Repeats = Field(8, description="tilted: batches drawn at each temperature")
    caution: NonNegative = Field(
        4.0,
        description="standard errors by which the quadratic u_hat must know that a batch beats the margin filter's",
    )

    copies: Literal["keep", "once"] | None = Field(
        None,
        description="once: of images of the pool that are exactly equal only the first can be picked; keep: all can; "
        "default: once, but keep in the pools of the benchmark datasets",
    )
    near_copies: Literal["off", "hash", "embedding"] = Field(
        "off",
        description="copies are also images that look alike, by a perceptual hash, or whose embeddings point the same "
        "way (data of embeddings; classifier.name linear, mlp)",
    )
    near_distance: PositiveOrNone = Field(
        None,
        description="how far near-copies may be: hash: bits of 63 that differ, default 6; embedding: 1 - cosine, "
        "default 0.05",
    )

    @field_validator("temperatures", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value  # YAML knows lists only

    @field_validator("strategy")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in STRATEGY_NAMES and ":" not in value:
            raise ValueError(
                f"acquisition.strategy={value}: no such strategy; {nearest(value, STRATEGY_NAMES)} (or give "
                "package.module:function of your own)"
            )
        return value

    @field_serializer("temperatures")
    def _as_list(self, value: tuple[float, ...]) -> list[float]:
        return list(value)

    @model_validator(mode="wrap")
    @classmethod
    def _default_batch(cls, content: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """A batch of the default's size, or of all of B or M where these are smaller, where none is set."""
        if not isinstance(content, dict) or "batch_size" in content:
            return handler(content)
        fields = cls.model_fields
        limits = [content.get(name, fields[name].default) for name in ("budget", "margin_pool")]
        if not all(type(limit) is int and limit > 0 for limit in limits):
            return handler(content)  # which says what is wrong with them
        return handler({**content, "batch_size": min(fields["batch_size"].default, *limits)}).unset("batch_size")

    @model_validator(mode="after")
    def _near(self) -> AcquisitionConfig:
        limit = {"off": None, "hash": 32, "embedding": 1}[self.near_copies]
        if self.near_distance is not None and limit is not None and self.near_distance >= limit:
            raise ValueError(
                f"acquisition.near_distance={self.near_distance:g}: with acquisition.near_copies={self.near_copies} "
                f"images that are {limit} apart have nothing in common; lower it"
            )
        return self

    @model_validator(mode="after")
    def _batches(self) -> AcquisitionConfig:
        if self.batch_size > self.margin_pool:
            raise ValueError(
                f"acquisition.batch_size={self.batch_size}: b must not exceed "
                f"acquisition.margin_pool={self.margin_pool} (M); lower b or raise M"
            )
        if self.batch_size > self.budget:
            raise ValueError(
                f"acquisition.batch_size={self.batch_size}: b must not exceed "
                f"acquisition.budget={self.budget} (B); lower b or raise B"
            )
        return self
