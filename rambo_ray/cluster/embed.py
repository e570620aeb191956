"""Frozen embeddings of a problem's images by Ray tasks: what f sees where it is a head on them.

An image that several parts hold, or that any earlier run embedded, is not embedded again. The network's weights
lie in the object store once; a task gets the pixels of its chunk and computes on one thread, so that no bit
depends on the number of workers or of their threads, nor on what the cache held.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import ray
import torch

from rambo_ray.cluster.session import Session
from rambo_ray.cluster.tasks import fetch
from rambo_ray.cluster.workers import run_tasks
from rambo_ray.config.schema import Config, is_head
from rambo_ray.data.images import Images
from rambo_ray.data.problem import Inputs, Problem, Revealed
from rambo_ray.embeddings import given, networks, own, reduce, weights
from rambo_ray.embeddings.cache import FeatureCache
from rambo_ray.embeddings.weights import Source
from rambo_ray.machines.begin import Begin
from rambo_ray.progress import Progress

CHUNK = 32 * networks.BATCH  # images of a task, and of a file of the cache


def inputs(
    session: Session, config: Config, problem: Problem, revealed: Revealed | None, progress: Callable[[int], Progress]
) -> Inputs:
    """What f sees: pixels, or, for a head, embeddings float32 [., D], of images or those that the data are.

    The principal components are those of S_0, S_val, what was rejected and the pool; test images are only mapped by
    them. `progress` makes a display for a number of images, those that the cache lacks. Raises UserError where the
    weights cannot be had or D is too large, RunError where a task failed; what was embedded until then is kept.
    """
    if problem.of_vectors:
        return given.inputs(config.classifier, problem, revealed)
    if not is_head(config.classifier.name):
        return Inputs.as_given(problem, revealed)
    weights.check(config.classifier, problem)
    test = None if revealed is None else revealed.test
    parts = [problem.labeled, problem.validation, problem.rejected, problem.pool, test]
    found = iter(features(session, config, [part for part in parts if isinstance(part, Images)], progress))
    none = np.zeros((0, weights.width(config.classifier, problem.labeled.array)), dtype=np.float32)
    every = [none if part is None else next(found) for part in parts]
    components = weights.kept(config.classifier, problem)
    reduction = reduce.fit(every[:4], components, standardised=own.is_own(config.classifier.embedding))
    labeled, validation, rejected, pool, tested = (reduction(part) for part in every)
    return Inputs(labeled, validation, rejected, pool, None if test is None else tested)


def features(
    session: Session, config: Config, parts: Sequence[Images], progress: Callable[[int], Progress]
) -> list[np.ndarray]:
    """The frozen network's features float32 [N, F] of the images of each part; raises as `inputs`."""
    source = weights.source(config)
    stored = cache(session, config, parts[0].pixels)
    digests = [part.digests() for part in parts]
    first: dict[bytes, np.ndarray] = {}  # each content once, in order, with its pixels
    for part, names in zip(parts, digests, strict=True):
        for digest, pixels in zip(names, part.pixels, strict=True):
            first.setdefault(digest, pixels)
    places = {digest: place for place, digest in enumerate(first)}
    found = np.empty((len(first), stored.width), dtype=np.float32)
    missing = [digest for digest, known in zip(first, stored.find(list(first), found), strict=True) if not known]
    if missing:
        shown = progress(len(missing))
        chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
        for chunk, computed in _embedded(session, source, chunks, first):
            found[[places[digest] for digest in chunk]] = computed
            stored.add(chunk, computed)
            shown.advance(len(chunk))
        shown.close()
    return [found[[places[digest] for digest in names]] for names in digests]


def cache(session: Session, config: Config, pixels: np.ndarray, root: str | None = None) -> FeatureCache:
    """The cache of features of images like pixels [N, H, W, C], by the network that `config` names; raises UserError.

    root: the folder that it is in; default: classifier.embedding_cache, or the user's own.
    """
    root = root or config.classifier.embedding_cache or weights.DEFAULT_CACHE
    # A digest is of the bytes alone, which images of another shape may share.
    identity = [*json.loads(weights.source(config).identity), list(pixels.shape[1:]), *_arithmetic(session)]
    return FeatureCache(root, identity, weights.width(config.classifier, pixels))


def _embedded(
    session: Session, source: Source, chunks: Sequence[list[bytes]], pixels: dict[bytes, np.ndarray]
) -> Iterator[tuple[list[bytes], np.ndarray]]:
    """Each chunk of digests with the features [n, F] of its images, as tasks finish."""
    state = source.state()
    source.build(state)  # what is wrong with the file is said here, in one line
    held = ray.put({key: value.numpy() for key, value in state.items()})
    # On CPUs each task has one, whatever the threads of an actor.
    wanted = {"num_cpus": 1} if session.device == "cpu" else session.options
    task = ray.remote(_embed).options(**wanted, max_retries=session.config.max_tries)
    workers = session.num_workers * (session.cpus if session.device == "cpu" else 1)

    how = (session.device, session.begin.with_threads(1))

    def start(number: int) -> ray.ObjectRef:
        return task.remote(source, held, np.stack([pixels[digest] for digest in chunks[number]]), *how)

    for number, ref in run_tasks(deque(range(len(chunks))), start, workers, wanted):
        yield chunks[number], fetch(ref, "embeddings of the images")


def _embed(source: Source, state: dict[str, np.ndarray], pixels: np.ndarray, device: str, begin: Begin) -> np.ndarray:
    begin()
    network = source.build({key: torch.tensor(value) for key, value in state.items()})
    return networks.features(network, pixels, device)


def _arithmetic(session: Session) -> list[str]:
    """What rounding depends on: features of one kind of machine must not get into a run on another."""
    if session.device != "cpu":
        return [torch.__version__, session.device]
    if session.config.reproducible != "machine":
        return [torch.__version__, session.config.reproducible]
    agreement = session.agreement
    capability = torch.backends.cpu.get_cpu_capability() if agreement is None else agreement.capability
    return [torch.__version__, capability]
