"""The section `data`: where S_0, S_val and the pool are, and how they are read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from rambo_ray.config.section import Count, CountOrNone, Section, SeedOrNone, Share, SideOrNone, Two

# The keys of `data` that describe a pool of each scenario.
SCENARIO_KEYS: dict[str, tuple[str, ...]] = {
    "clean": (),
    "long_tail": ("imbalance",),
    "off_target": ("target_classes", "off_target_share"),
    "duplicates": ("duplicate_share", "copies"),
}

# The keys of `data` that say how one's own sets are read.
OWN_KEYS = (
    "validation_share", "none_label", "class_level", "column", "label_column", "id_column", "on_error", "stream",
)  # fmt: skip

# Keys that runs of before had not: where they say what was done then, such a run keeps its identity.
NEWER_KEYS = (*OWN_KEYS, "bit_depth")


class DataConfig(Section):
    """Where the images are, and which of them are labelled (S_0), validation and pool (U_0)."""

    name: str = Field(
        "digits",
        description="digits, mnist, fashion_mnist, cifar10 or svhn; parquet: one labelled Parquet dataset "
        "at data.root; own: your labelled, validation and pool files",
    )
    root: str | None = Field(
        None,
        description="folder of the dataset: Parquet files <split>-*.parquet (also in a subfolder named as the "
        "dataset), or a torchvision root; default: ~/.cache/rambo_ray",
    )
    download: bool = Field(True, description="let torchvision download what root does not hold")
    num_labeled: Count = Field(200, description="k, images in S_0 (benchmark mode)")
    num_validation: Count = Field(1000, description="images in S_val (benchmark mode)")
    pool_limit: CountOrNone = Field(None, description="keep only this many pool images (benchmark mode)")
    split_seed: SeedOrNone = Field(None, description="seed of the split; default: seed")
    scenario: Literal["clean", "long_tail", "off_target", "duplicates"] = Field(
        "clean",
        description="what pool and S_0 are like (benchmark mode). clean: as the dataset; long_tail: classes of falling "
        "frequency; off_target: part of the pool belongs to no class; duplicates: near-copies",
    )
    imbalance: Annotated[float, Field(gt=1)] = Field(
        50.0, description="long_tail: how many times as frequent the most common class is as the rarest"
    )
    target_classes: Two = Field(
        6, description="off_target: classes that stay, drawn by the split's seed; the others' images belong to none"
    )
    off_target_share: Share = Field(0.5, description="off_target: share of the pool that belongs to no class")
    duplicate_share: Share = Field(0.5, description="duplicates: share of the pool that is near-copies")
    copies: Count = Field(20, description="duplicates: near-copies of each image that has any")
    labeled: str | None = Field(
        None,
        description="own: labelled images or embeddings: class folders, a pattern, Parquet, Arrow, CSV, npz or npy; a "
        "path or an address such as s3://",
    )
    validation: str | None = Field(None, description="own: validation images or embeddings, as data.labeled")
    pool: str | None = Field(None, description="own: unlabelled images or embeddings, as data.labeled")
    validation_share: Share | None = Field(
        None, description="own: without data.validation, this share of the labelled images of each class validates"
    )
    none_label: str | None = Field(
        None, description="own: the label of images that belong to none of the classes; they are no class of f"
    )
    class_level: int | None = Field(
        None,
        description="own: which folder of an image's path is its class: 1 the first below, -1 the one that holds it; "
        "default: the one that differs",
    )
    column: str | None = Field(
        None,
        description="own: column or array of the images or embeddings; of a CSV, the images' files; default: image, "
        "img, embedding, embeddings; of a CSV path",
    )
    label_column: str | None = Field(
        None, description="own: column or array of the classes, in tables, CSV and npz; default: label"
    )
    id_column: str | None = Field(
        None, description="own: column or array of the ids, in tables, CSV and npz of all sets; default: id where there"
    )
    on_error: Literal["fail", "skip"] = Field(
        "fail", description="own: what images that cannot be read do; skip: they are left out, counted and listed"
    )
    stream: Literal["auto", "always", "never"] = Field(
        "auto",
        description="own: whether a pool of Parquet files goes through f file by file instead of into memory; auto: "
        "from 512 MB of decoded images or embeddings on",
    )
    bit_depth: Literal[8, 10, 12, 14, 16] | None = Field(
        None,
        description="bits that grey images of 16 bits use; default: the least that hold the largest value",
    )
    image_size: SideOrNone = Field(None, description="resize images to squares of this side, in pixels")
    channels: Literal[1, 3] | None = Field(None, description="1 grey, 3 colour; default: as stored")

    @field_validator("none_label", "column", "label_column", "id_column", mode="before")
    @classmethod
    def _name(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value  # as YAML reads 9

    @model_validator(mode="after")
    def _mode(self) -> DataConfig:
        own = {"labeled": self.labeled, "validation": self.validation, "pool": self.pool}
        if self.name == "own":
            for key, value in own.items():
                if value is None and not (key == "validation" and self.validation_share is not None):
                    or_share = ", or data.validation_share=0.3" if key == "validation" else ""
                    raise ValueError(f"data.{key}=null: data.name=own needs it; set data.{key}=PATH{or_share}")
            if self.validation is not None and self.validation_share is not None:
                raise ValueError(
                    f"data.validation_share={self.validation_share:g}: only read where data.validation is not given; "
                    "leave one of them out"
                )
            if self.class_level == 0:
                raise ValueError("data.class_level=0: 1 is the first folder below, -1 the one that holds the image")
        else:
            for key, value in own.items():
                if value is not None:
                    raise ValueError(f"data.{key}={value}: only read when data.name=own; set data.name=own")
            for key in OWN_KEYS:
                if (value := getattr(self, key)) != type(self).model_fields[key].default:
                    raise ValueError(f"data.{key}={value}: only read when data.name=own; set data.name=own")
            if self.name == "parquet" and self.root is None:
                raise ValueError("data.root=null: data.name=parquet needs it; set data.root=PATH")
        return self

    @model_validator(mode="after")
    def _scenario(self) -> DataConfig:
        if self.name == "own" and self.scenario != "clean":
            raise ValueError(
                f"data.scenario={self.scenario}: your own pool is what it is; set data.scenario=clean, or data.name to "
                "a labelled dataset"
            )
        for scenario, keys in SCENARIO_KEYS.items():
            for key in keys if scenario != self.scenario else ():
                if (value := getattr(self, key)) != type(self).model_fields[key].default:
                    raise ValueError(
                        f"data.{key}={value}: only read when data.scenario={scenario}; set data.scenario={scenario}"
                    )
        return self
