"""`Rambo(budget=500).select(labeled, validation, pool)`: a run of RAMBO on what a program holds.

It is the command's run, by the same functions and with the same files; only the data come from memory, and what is
picked comes back as a `Picked`. `Rambo(...).plan` and `Rambo(...).backtest` are the commands of that name, before it.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rambo_ray import displays
from rambo_ray.annotation import rounds
from rambo_ray.cli import ready
from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.config.sections import ESTIMATOR
from rambo_ray.data import arrays, foreign, held
from rambo_ray.errors import UserError
from rambo_ray.own import names
from rambo_ray.progress import Display, Stages

if TYPE_CHECKING:  # torch and Ray take seconds to load, and are needed when something is to be picked
    from rambo_ray.api.backtested import Backtested
    from rambo_ray.api.cost import Cost
    from rambo_ray.api.picked import Picked
    from rambo_ray.cli.run import Finished


class Rambo:
    """Picks the pool's images (or embeddings of anything) that are worth annotating, in one round."""

    def __init__(
        self,
        budget: int | None = None,
        *,
        seed: int | None = None,
        classifier: str | Any | None = None,
        embedding: str | Any | None = None,
        output: str | Path | None = None,
        config: str | Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        address: str | None = None,
        quiet: bool = False,
    ) -> None:
        """A run with this configuration; what is left out has its default, or follows from the data.

        budget: B, items to annotate. classifier: a name (mnist_net, resnet18, linear, mlp, torchvision:NETWORK,
        timm:NETWORK, package.module:factory), or a factory of your own: a callable (image_shape, num_classes) that
        returns a torch.nn.Module. embedding: what a head sees of images: a name, or a callable of your own from
        pixels uint8 [n, H, W, C] to numbers [n, D].

        output: a directory for the run's files, in which the same call resumes; without one they are in a temporary
        directory that lasts as long as what `select` returns. config: a YAML file, or the name of a ready
        configuration. overrides: any key by its dotted name, {"acquisition.batch_size": 25}. address: of a Ray
        cluster; without one a local Ray is started for the call, unless this process has one (`ray.init()`).
        quiet: show nothing.

        Raises UserError, a ValueError of one line, for a key or value that cannot be.
        """
        values: dict[str, Any] = {}
        content = loading.read_yaml(ready.file("config", str(config))) if config is not None else {}
        for key, value in (
            ("acquisition.budget", budget),
            ("seed", seed),
            ("classifier.name", _named(classifier)),
            ("classifier.embedding", _named(embedding)),
            ("output.dir", None if output is None else str(output)),
            ("cluster.address", address),
        ):
            if value is not None:
                values[key] = value
        for key, value in (overrides or {}).items():
            if key in values and values[key] != value:
                raise UserError(
                    f"overrides: {key}={value}: also given as an argument, with {values[key]}; give it once"
                )
            values[key] = value
        self._content = loading.with_keys(content, values)
        self.quiet = quiet
        self.config  # noqa: B018  # what is wrong is said now, not after data were read

    @property
    def config(self) -> Config:
        """The configuration so far: without data, and with defaults that the data may change."""
        return loading.parse(self._content)

    def select(
        self,
        labeled: Any,
        validation: Any = None,
        pool: Any = None,
        *,
        ids: Sequence[object] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> Picked:
        """Pick B items of `pool`; runs on Ray, and takes from seconds to hours.

        labeled, validation: (X, y), or (X, y, ids); a torch dataset of (image, label); a Hugging Face dataset; or a
        path, in any form that `rambo run data.name=own` reads. pool: the same without y. X: see
        `rambo_ray.data.arrays`. ids: the pool's; class_names: what integer labels stand for. Without `validation`
        it is taken from the labelled ones, where the override data.validation_share says which share.

        Raises UserError, before anything is computed, for what cannot be run, and RunError for what the cluster
        failed at; in `output` the same call then goes on where it stopped.
        """
        from rambo_ray.cli.run import execute_on

        began, temporary = time.monotonic(), None
        if self.config.output.dir is None:
            temporary = tempfile.TemporaryDirectory(prefix="rambo_ray_")
        with self._read((labeled, validation, pool), ids, class_names, temporary, streams=True) as read:
            config, loaded, stages = read
            done = execute_on(config, loaded.problem, loaded.revealed, stages, began, loaded.reading)
            return _picked(done, temporary)

    def plan(
        self,
        labeled: Any,
        validation: Any = None,
        pool: Any = None,
        *,
        ids: Sequence[object] | None = None,
        class_names: Sequence[str] | None = None,
        folds: int = 0,
    ) -> Cost:
        """What `select` would cost with the same arguments, and a backtest of so many `folds` before it (0: none).

        Times a few small trainings on Ray, for some seconds to a minute, and writes nothing. Raises as `select`.
        """
        from rambo_ray.api.cost import Cost
        from rambo_ray.cli.plan import forecast_costs_on

        if folds < 0:
            raise UserError(f"folds={folds}: must not be negative; give the rounds of a backtest, or 0 for none")
        with self._read((labeled, validation, pool), ids, class_names, streams=True) as (config, loaded, stages):
            return Cost(tuple(forecast_costs_on(config, loaded.problem, loaded.revealed, stages, folds)))

    def backtest(
        self,
        labeled: Any,
        validation: Any = None,
        pool: Any = None,
        *,
        ids: Sequence[object] | None = None,
        class_names: Sequence[str] | None = None,
        folds: int = 12,
        methods: Sequence[str] | None = None,
        output: str | Path | None = None,
    ) -> Backtested:
        """Whether it will beat a random choice on these data: rounds played with the labelled items alone.

        The arguments are those of `select`; no label of the pool is looked at. folds: rounds to play; methods: who
        plays beside random, default: RAMBO and all published strategies; output: a directory where the verdict and
        the played rounds are kept, in which the same call goes on; not the one that `select` writes to.

        Raises as `select`.
        """
        from rambo_ray.api.backtested import Backtested
        from rambo_ray.cli import backtest

        backtest.check_folds(folds, "folds=")
        asked = backtest.Asked(
            folds=folds,
            methods=backtest.methods(methods),
            folder=None if output is None else Path(output).expanduser(),
            command=f"Rambo(...).backtest(..., folds={folds})",
            run="Rambo(...).select(...)",
            by='Rambo(..., overrides={{"acquisition.strategy": "{strategy}"}}).select(...)',
        )
        with self._read((labeled, validation, pool), ids, class_names) as (config, loaded, stages):
            return Backtested.of(backtest.execute_on(config, loaded.problem, asked, stages), asked.folder)

    @contextlib.contextmanager
    def _read(
        self,
        parts: tuple[Any, Any, Any],
        ids: Sequence[object] | None,
        class_names: Sequence[str] | None,
        output: tempfile.TemporaryDirectory[str] | None = None,
        *,
        streams: bool = False,
    ) -> Iterator[tuple[Config, rounds.Loaded, Stages]]:
        """The configuration, what was read, and who is told how it goes, first of what was read.

        parts: labelled, validation, pool; what of them is in memory is let go of at the end. output: where the files
        go instead; streams: whether the pool may stay in its files.
        """
        kept: list[str] = []
        try:
            values: dict[str, Any] = {"data.name": "own"}
            for part, value in zip(("labeled", "validation", "pool"), parts, strict=True):
                if value is None and part == "validation" and "validation_share" in self._content.get("data", {}):
                    continue
                values[f"data.{part}"] = path = _path(value, part, class_names, ids if part == "pool" else None)
                kept += [path] if held.is_name(path) else []
            if output is not None:
                values["output.dir"] = output.name
            config = loading.parse(loading.with_keys(self._content, values))
            loaded = rounds.read(config, streams=streams)
            display = Display() if self.quiet else displays.chosen()  # that of `rambo --quiet` says where the files are
            with Stages(every_s=config.output.progress_seconds, display=display) as stages:
                for text in loaded.said:
                    stages.say(text)
                yield config, loaded, stages
        finally:
            held.forget(kept)


def _named(value: Any) -> str | None:
    """The name of what a user gave as a classifier or as features."""
    if value is None or isinstance(value, str):
        return value
    estimator = hasattr(value, "fit") and hasattr(value, "predict_proba")
    return f"{ESTIMATOR if estimator else ''}{names.given(value)}"


def _path(value: Any, part: str, class_names: Sequence[str] | None, ids: Sequence[object] | None) -> str:
    """Where a part's data are: the path that was given, or the name that what was given is held under."""
    labeled = part != "pool"
    if isinstance(value, str | Path):
        if ids is not None:
            raise UserError(f"ids: {part} is a path, whose files say their own ids; leave ids out")
        return str(value)
    if value is None:
        share = ", or set the override data.validation_share to take some of the labelled ones"
        raise UserError(f"{part}: not given; give it{share if part == 'validation' else ''}")
    labels = None
    if foreign.is_hugging_face(value):
        content, labels, found = foreign.of_hugging_face(value, labeled, class_names, part)
        ids = found if ids is None else ids
    elif foreign.is_torch(value):
        content, labels, _ = foreign.of_torch(value, labeled, class_names, part)
    elif labeled:
        if not isinstance(value, tuple) or len(value) not in (2, 3):
            raise UserError(f"{part}: a {type(value).__name__}; give (X, y), a dataset of (image, label), or a path")
        content, labels = arrays.content(value[0], part), arrays.labels(value[1], class_names, part)
        ids = value[2] if len(value) == 3 else None
    else:
        content = arrays.content(value, part)
    return held.keep(content, labels, ids, part)


def _picked(done: Finished, temporary: tempfile.TemporaryDirectory[str] | None) -> Picked:
    """What a finished run picked; its positions are those in the pool that was given."""
    from rambo_ray.api.picked import Picked

    selection, items = done.outcome.selection, done.problem.pool.take(done.outcome.selection.pool_index)
    places = done.problem.positions  # of what is left of the pool, without copies
    margins = np.full(done.problem.num_pool, np.nan, dtype=np.float32)
    margins[places] = done.outcome.margins
    return Picked(
        ids=items.ids,
        indices=places[selection.pool_index],
        steps=selection.step,
        margins=selection.margin,
        scores=selection.utility,
        pool_margins=margins,
        metrics=done.metrics,
        config=done.config,
        folder=done.output.folder,
        items=items,
        _kept=temporary,
    )
