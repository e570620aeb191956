"""`rambo label` from a request to a page that people use: lock, answers' file, images, server, until it is ended."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shlex
import signal
from collections.abc import Callable
from contextlib import ExitStack, closing

from aiohttp import web

from rambo_ray.annotation import answers, telling, tenancy
from rambo_ray.annotation.desk import Desk, Share, Standing
from rambo_ray.annotation.pictures import Pictures
from rambo_ray.annotation.request import Request
from rambo_ray.annotation.server import ANY, LOOPBACK, About, Service, application
from rambo_ray.annotation.telling import Ids
from rambo_ray.annotation.tenancy import Tenancy
from rambo_ray.data import originals
from rambo_ray.errors import UserError

PORT = 8765
"""The first port that is tried; TRIED ports from there on, then any that is free."""
TRIED = 20


class Listener:
    """Hears what happens, for the terminal."""

    def opened(self, address: str, once: str, standing: Standing, torn: str | None, hidden: int | None) -> None:
        """People can label at `address`, to which `once` leads one time.

        torn: the line that a crash had cut off in the answers' file. hidden: where ids are not shown, how many of
        them say a class; None where they are.
        """

    def said(self, annotator: str, standing: Standing) -> None:
        """`annotator` has said something."""


def serve(
    request: Request,
    listener: Listener,
    *,
    annotator: str,
    share: Share = "split",
    host: str = LOOPBACK[0],
    port: int | None = None,
    ids: Ids = "auto",
) -> Standing:
    """Serve the page for `request` until SIGINT or SIGTERM; returns how far the work is then.

    annotator: the name that the page suggests; port: None for the last one used, or the first that is free; ids:
    whether they stand under the images.
    Raises UserError, before anything is served, for a folder that is served already, answers that do not belong to
    the request, images that are not there, and a host or port that cannot be had.
    """
    with ExitStack() as stack:
        held = stack.enter_context(tenancy.taken(request.folder))
        path = request.folder / answers.LABELS
        said = answers.read(path).answers if path.exists() else ()
        keep: list[answers.Writer] = []  # opened when all else is right: nothing is written where something is wrong
        try:
            desk = Desk(request.ids, request.class_names, share, lambda answer: keep[0].append(answer), said)
        except UserError as error:
            raise UserError(f"{path}: {error}; move the file away where it belongs to another selection") from error
        open_first = sorted(range(len(request.ids)), key=lambda position: desk.answered(position))
        wanted = [request.ids[position] for position in open_first]
        pictures = stack.enter_context(
            closing(Pictures(originals.stored(request.data, request.seed, wanted), open_first))
        )
        writer = stack.enter_context(closing(answers.Writer(path)))
        keep.append(writer)
        about = About(request.folder.resolve().name, annotator, f"rambo labels {shlex.quote(str(request.folder))}")
        captions = telling.captions(request.ids, request.class_names, ids)
        service = Service(desk, pictures.get, about, listener.said, captions)
        seen = captions == list(request.ids)
        hidden = None if seen else len(telling.telling(request.ids, request.class_names))

        def opened(address: str, once: str) -> None:
            listener.opened(address, once, desk.standing("", ""), writer.torn, hidden)

        asyncio.run(_until_ended(service, held, host, port, opened))
        return desk.standing("", "")


async def _until_ended(
    service: Service, held: Tenancy, host: str, port: int | None, opened: Callable[[str, str], None]
) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    once = secrets.token_urlsafe(16)
    runner = web.AppRunner(application(service, held.token, host, once), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        bound = await _bind(runner, host, port, held.port)
        named = LOOPBACK[0] if host in ANY else f"[{host}]" if ":" in host else host
        address = f"http://{named}:{bound}/{held.token}/"
        held.serve_at(address, bound)
        opened(address, f"http://{named}:{bound}/{once}")
        await ended.wait()
    finally:
        await runner.cleanup()


async def _bind(runner: web.AppRunner, host: str, port: int | None, last: int | None) -> int:
    """Listen; returns the port."""
    tried = [port] if port is not None else [*([last] if last else []), *range(PORT, PORT + TRIED), 0]
    for each in tried:
        try:
            await web.TCPSite(runner, host, each).start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE and each != tried[-1]:
                continue
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise UserError(f"--port {each}: {os.strerror(error.errno)}; give another one, or none") from error
            raise UserError(f"--host {host}: {error.strerror or error}; give an address of this machine") from error
        return int(runner.addresses[0][1])
    raise AssertionError("the last port tried is any that is free")
