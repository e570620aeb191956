"""From a pool that is streamed to what of it a run can look at: a pass of f over its files, and the smallest margins.

A head sees embeddings. These come from a pass of their own, of the frozen network, whose parts are kept beside the
cache of features and serve any later run; the reduction is fitted to a sample of them that is drawn by content; and
f's pass is over these parts. Everything else of a run then has C candidates and a sample in memory, instead of N.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from rambo_ray.acquisition import greedy
from rambo_ray.classifier.training import Arrays
from rambo_ray.cluster import embed, nodes
from rambo_ray.cluster.session import Session
from rambo_ray.config.schema import Config, is_head
from rambo_ray.data.images import Images
from rambo_ray.data.items import Items
from rambo_ray.data.pool import survey
from rambo_ray.data.pool.files import PoolFiles
from rambo_ray.data.pool.parts import MARGINS, Parts, features_schema
from rambo_ray.data.problem import Inputs, Problem
from rambo_ray.data.vectors import Vectors
from rambo_ray.embeddings import given, own, reduce, weights
from rambo_ray.embeddings.reduce import Reduction
from rambo_ray.errors import RunError, UserError
from rambo_ray.pipeline import once
from rambo_ray.pipeline.plan import Plan
from rambo_ray.progress import Progress

# Images of the pool, about, that a head's reduction is fitted to beside S_0 and S_val; of a smaller pool all.
DRAWN = 32768

# Makes a display for a number of pieces of work and their total weight.
Shown = Callable[[int, float | None], Progress]


@dataclass(frozen=True, eq=False)
class StreamedInputs(Inputs):
    """What f sees of S_0 and S_val, and the parts and the reduction that it sees the pool through."""

    features: Parts
    reduction: Reduction


def inputs(
    session: Session, config: Config, problem: Problem, folder: Path, progress: Callable[[int], Progress]
) -> Inputs:
    """As `embed.inputs`, for a problem whose pool is streamed: the pool has no rows yet.

    Features of images of the pool are kept below classifier.embedding_cache; on a cluster of several nodes, where that
    is not set, in the run's `folder`, which every node reaches. Vectors that were given are features themselves.
    """
    pool = problem.streamed
    assert pool is not None
    if not is_head(config.classifier.name):
        return Inputs.as_given(problem, None)
    parts = [part for part in (problem.labeled, problem.validation, problem.rejected) if part is not None]
    if problem.of_vectors:
        components = given.kept(config.classifier, problem)
        known = [part.array for part in parts]
        features = Parts(folder / "pool" / "features", features_schema(problem.shape[0]))
    else:
        weights.check(config.classifier, problem)
        components = weights.kept(config.classifier, problem)
        known = embed.features(session, config, [part for part in parts if isinstance(part, Images)], progress)
        features = _features_folder(session, config, problem, pool, folder)
    _embed(session, config, pool, features, progress)
    drawn = survey.draw(pool, features, DRAWN, "features")
    alien = problem.of_vectors or own.is_own(config.classifier.embedding)  # numbers of whatever units
    reduction = reduce.fit([*known, drawn], components, standardised=alien)
    reduced = [reduction(part) for part in known]
    none = reduced[0][:0]
    return StreamedInputs(
        labeled=reduced[0],
        validation=reduced[1],
        rejected=reduced[2] if len(reduced) > 2 else none,
        pool=none,
        test=None,
        features=features,
        reduction=reduction,
    )


def _features_folder(session: Session, config: Config, problem: Problem, pool: PoolFiles, folder: Path) -> Parts:
    """Where the features of the pool's images are, beside those of other pools of this network."""
    root = config.classifier.embedding_cache
    if root is None:
        root = str(folder / "features") if session.nodes > 1 else weights.DEFAULT_CACHE
    where = hashlib.sha256(str(pool.files[0].path.parent).encode()).hexdigest()[:16]
    stored = embed.cache(session, config, problem.labeled.array, root)
    if session.nodes > 1 and config.classifier.embedding_cache is not None:
        stored.folder.mkdir(parents=True, exist_ok=True)
        nodes.check_folder(stored.folder, "classifier.embedding_cache")
    return Parts(stored.folder / f"pool-{where}", features_schema(stored.width))


def _embed(
    session: Session, config: Config, pool: PoolFiles, parts: Parts, progress: Callable[[int], Progress]
) -> None:
    from rambo_ray.cluster import pool_actors, stream  # Ray Data and pandas take a second, which others do not need

    shown = progress(len(pool))
    if pool.wanted is None:
        stream.run(session, pool, parts, pool_actors.Given, (), shown.advance)
    else:
        source = weights.source(config)
        state = source.state()
        source.build(state)  # what is wrong with the file is said here, in one line
        held = stream.held({key: value.numpy() for key, value in state.items()})
        stream.run(
            session,
            pool,
            parts,
            pool_actors.Features,
            (held, source, session.device, session.begin.with_threads(1)),
            shown.advance,
        )
    shown.close()


def passed(
    session: Session, plan: Plan, problem: Problem, seen: Inputs, base: Arrays, folder: Path, shown: Shown
) -> Parts:
    """The parts of a whole pass of f, `base`, over the streamed pool, in a folder of `folder` that is f's own.

    Raises RunError for what failed.
    """
    from rambo_ray.cluster import pool_actors, stream

    pool = problem.streamed
    assert pool is not None
    parts = Parts(folder / _identity(plan, seen, base), MARGINS)
    done = shown(len(pool), None)
    if isinstance(seen, StreamedInputs):
        held = stream.held(base, seen.reduction)
        arguments = (held, plan.training, session.device, session.begin)
        stream.run(session, pool, parts, pool_actors.HeadMargins, arguments, done.advance, seen.features)
    else:
        held = stream.held(base)
        arguments = (held, plan.training, session.device, session.begin)
        stream.run(session, pool, parts, pool_actors.Margins, arguments, done.advance)
    done.close()
    return parts


def narrowed(
    session: Session, plan: Plan, problem: Problem, seen: Inputs, parts: Parts, progress: Callable[[int], Progress]
) -> tuple[Problem, Inputs]:
    """The problem whose pool is what the `parts` of a pass leave of the streamed one, and what f sees of it.

    Raises UserError for images of the pool that cannot be read or are in S_0 or S_val, too, RunError for what failed.
    """
    from rambo_ray.cluster import stream

    pool, config = problem.streamed, plan.config
    assert pool is not None
    known = survey.known_digests({"labeled": problem.labeled.digests(), "validation": problem.validation.digests()})
    candidates = greedy.candidate_count(len(pool), config.acquisition)
    found = survey.survey(pool, parts, candidates, known, config.data.on_error, once.bought_once(config))
    if len(found.candidates) < config.acquisition.budget:
        raise UserError(
            f"acquisition.budget={config.acquisition.budget}: B must not exceed the {len(found.candidates)} different "
            "images of the pool; lower acquisition.budget"
        )
    array = stream.images(session, pool, found.kept.positions)
    kept: Items = Vectors(array, found.kept.ids) if problem.of_vectors else Images(array, found.kept.ids)
    if tuple(kept.digests()) != found.kept.digests:
        raise RunError("the pool's files were changed while the run read them; run it again when they are at rest")
    narrow = replace(problem, pool=kept, survey=found)
    return narrow, _seen(session, config, narrow, seen, progress)


def _seen(
    session: Session, config: Config, problem: Problem, seen: Inputs, progress: Callable[[int], Progress]
) -> Inputs:
    """`seen` with the pool of a problem that was narrowed."""
    of_pool = problem.pool.array
    if isinstance(seen, StreamedInputs):
        if isinstance(problem.pool, Images):
            of_pool = embed.features(session, config, [problem.pool], progress)[0]
        of_pool = seen.reduction(of_pool)
    return Inputs(**{field.name: getattr(seen, field.name) for field in fields(Inputs)} | {"pool": of_pool})


def _identity(plan: Plan, seen: Inputs, base: Arrays) -> str:
    """A folder's name for margins of this f."""
    digest = hashlib.sha256(repr((plan.training, sorted(base))).encode())
    for name in sorted(base):
        if name.startswith("model."):  # the others say how long its training took
            digest.update(np.ascontiguousarray(base[name]).tobytes())
    if isinstance(seen, StreamedInputs):
        digest.update(seen.reduction.components.numpy().tobytes() + seen.reduction.mean.numpy().tobytes())
    return digest.hexdigest()[:16]
