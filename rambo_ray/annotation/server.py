"""The local page on which people label: its web server.

Every address begins with a token, so who has the address may label and nobody else:

    GET  /TOKEN/                the page, with its FILES beside it
    GET  /TOKEN/request         what is asked: classes and their keys, number of images, who is likely to answer
    GET  /TOKEN/image/POSITION  an image as a browser can show it
    POST /TOKEN/more            more images for a page
    POST /TOKEN/answer          an answer, which is on the disk before the reply
    POST /TOKEN/undo            the last answer taken back
    POST /TOKEN/release         the page has been closed

Bodies are JSON, see `Ask` and `Said`. A web site that the annotator has open elsewhere cannot reach any of it: it
does not know the token, and a name of its own that it points at this machine (DNS rebinding) is refused by `Host`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rambo_ray.annotation.browsers import shown
from rambo_ray.annotation.desk import Desk, Refused, Standing
from rambo_ray.annotation.keys import keys
from rambo_ray.errors import UserError

PAGE = Path(__file__).parent / "page"
FILES = {
    "": ("index.html", "text/html"),
    "label.css": ("label.css", "text/css"),
    **{name: (name, "text/javascript") for name in ("label.js", "classes.js", "images.js", "names.js", "server.js")},
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the token is in the address
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",  # the images are the user's
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ANY = ("0.0.0.0", "::")

T = TypeVar("T")
_Model = TypeVar("_Model", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Ask(BaseModel):
    """What a page says with every request: who sits before it, what it holds and how many more images it wants.

    page: a name that the page made for itself; again: what was skipped, instead of what is new.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    annotator: str
    page: str = Field(min_length=8, max_length=64)
    held: list[int] = Field(default_factory=list, max_length=100_000)
    want: int = Field(default=0, ge=0, le=100_000)
    again: bool = False


class Said(Ask):
    """An answer: exactly one of a label, `rejected` and `skipped`; of an undo none."""

    position: int
    id: str
    label: str | None = None
    rejected: bool = False
    skipped: bool = False


@dataclass(frozen=True)
class About:
    """What the page says of itself: the run's name, who is likely to answer, and what to do in the end."""

    title: str
    annotator: str
    next_command: str


class Service:
    """The requests to one desk, each as a method."""

    def __init__(
        self,
        desk: Desk,
        picture: Callable[[int], bytes],
        about: About,
        told: Callable[[str, Standing], None],
        captions: Sequence[str] | None = None,
    ) -> None:
        """Serve `desk`; `picture` gives an encoded image, and may wait; `told` hears who answered.

        captions: what stands under each image; default: its id.
        """
        self._captions = desk.ids if captions is None else captions
        self.desk, self._picture, self._about, self._told = desk, picture, about, told
        # One thread has the desk to itself; images have others, so that no answer waits for a slow disk.
        self._desk_thread = ThreadPoolExecutor(1, "desk")
        self._picture_threads = ThreadPoolExecutor(8, "pictures")
        self._told_thread = ThreadPoolExecutor(1, "told")  # a terminal that is not read holds nobody up

    async def request(self, _: web.Request) -> web.Response:
        """What is asked."""
        desk = self.desk
        return web.json_response(
            {
                "classes": desk.class_names,
                "keys": keys(desk.class_names),
                "total": len(desk.ids),
                "share": desk.share,
                **asdict(self._about),
            }
        )

    async def image(self, request: web.Request) -> web.Response:
        """An image; 404 with the reason where it cannot be shown."""
        position = int(request.match_info["position"])
        if position >= len(self.desk.ids):
            raise web.HTTPNotFound(text=f"there are {len(self.desk.ids)} images")
        try:
            content, kind = await self._on(self._picture_threads, lambda: shown(self._picture(position)))
        except UserError as error:
            raise web.HTTPNotFound(text=str(error)) from error
        return web.Response(body=content, content_type=kind)

    async def more(self, request: web.Request) -> web.Response:
        """More images."""
        ask = await _body(request, Ask)
        return await self._reply(ask, lambda: {"history": self._named(self.desk.history(ask.annotator))})

    async def answer(self, request: web.Request) -> web.Response:
        """One answer, kept, or whose the image is."""
        said = await _body(request, Said)
        what = {"label": said.label, "rejected": said.rejected, "skipped": said.skipped}

        def take() -> dict[str, Any]:
            outcome = self.desk.answer(said.annotator, said.page, said.position, said.id, **what)  # type: ignore[arg-type]
            return asdict(outcome)

        return await self._reply(said, take, told=True)

    async def undo(self, request: web.Request) -> web.Response:
        """An answer taken back."""
        said = await _body(request, Said)
        holds = said.model_copy(update={"held": [*said.held, said.position]})

        def take_back() -> dict[str, Any]:
            return asdict(self.desk.undo(said.annotator, said.page, said.position, said.id))

        return await self._reply(holds, take_back, told=True)

    async def release(self, request: web.Request) -> web.Response:
        """A page has been closed."""
        ask = await _body(request, Ask)
        await self._on(self._desk_thread, lambda: self.desk.release(ask.page))
        return web.json_response({})

    async def close(self, _: web.Application) -> None:
        """End the threads; what was begun is finished."""
        self._desk_thread.shutdown()
        for threads in (self._picture_threads, self._told_thread):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _reply(self, ask: Ask, work: Callable[[], dict[str, Any]], *, told: bool = False) -> web.Response:
        """Do `work` at the desk; reply with what it gives, more images and how far the work is, which may be told."""

        def at_the_desk() -> dict[str, Any]:
            content = work()
            found, lost = self.desk.hand_out(ask.annotator, ask.page, ask.held, ask.want, skipped=ask.again)
            standing = self.desk.standing(ask.annotator, ask.page)
            if told:
                self._told_thread.submit(self._told, ask.annotator, standing)
            return {**content, "images": self._named(found), "lost": lost, "standing": asdict(standing)}

        try:
            return web.json_response(await self._on(self._desk_thread, at_the_desk))
        except Refused as error:
            return web.json_response({"error": str(error)}, status=400)
        except OSError as error:
            reason = error.strerror or str(error)
            return web.json_response({"error": f"The answer could not be written: {reason}"}, status=507)

    def _named(self, positions: list[int]) -> list[dict[str, Any]]:
        ids, captions = self.desk.ids, self._captions
        return [{"position": place, "id": ids[place], "caption": captions[place]} for place in positions]

    async def _on(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)


def application(service: Service, token: str, bound: str, once: str = "") -> web.Application:
    """The web application of `service` on a server bound to the host `bound`.

    once: what leads to the page one time, in place of the token: a browser is started with it, since all who work on
    this machine can see with what a program was started.
    """
    app = web.Application(middlewares=[_guard(token, bound, once)], client_max_size=2**21)
    for name in FILES:
        app.router.add_get("/{token}/" + name, _file)
    app.router.add_get("/{token}/request", service.request)
    app.router.add_get(r"/{token}/image/{position:\d{1,9}}", service.image)
    for name in ("more", "answer", "undo", "release"):
        app.router.add_post("/{token}/" + name, getattr(service, name))
    app.on_response_prepare.append(_with_headers)
    app.on_cleanup.append(service.close)
    return app


def is_host(name: str, bound: str) -> bool:
    """Whether a request may name this server so, without its port, where it is bound to the host `bound`.

    Every name that a web site could point at this machine is refused; a number is no name.
    """
    if name in LOOPBACK:
        return True
    if bound in LOOPBACK:
        return False
    if name == bound.lower():
        return True
    own = socket.gethostname().lower()
    if bound in ANY:
        return _is_number(name) or name in (own, own.partition(".")[0], f"{own.partition('.')[0]}.local")
    return False


def _guard(token: str, bound: str, once: str) -> Any:
    """Lets through what knows the token and names the server rightly."""
    expected = token.encode()
    tickets = [once.encode()] if once else []

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_host(_host(request), bound):
            return web.Response(status=421, text="This server does not answer to that name.\n")
        given = request.path.split("/")[1].encode("utf-8", "surrogateescape")
        if tickets and secrets.compare_digest(given, tickets[0]):
            tickets.clear()
            return web.Response(status=303, headers={"Location": f"/{token}/"})
        if not secrets.compare_digest(given, expected):
            return web.Response(status=403, text="Open the address that rambo label printed, with all that is in it.\n")
        try:
            return await handler(request)
        except web.HTTPException as error:
            return web.Response(status=error.status, text=error.text)

    return guard


def _host(request: web.Request) -> str:
    """The server's name in the request, small letters, without port and brackets."""
    host = request.headers.get("Host", "").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] or host


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _file(request: web.Request) -> web.Response:
    name, kind = FILES[request.path.split("/")[2]]
    return web.Response(text=(PAGE / name).read_text(encoding="utf-8"), content_type=kind, charset="utf-8")


async def _with_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers.pop("Server", None)


async def _body(request: web.Request, model: type[_Model]) -> _Model:
    """The body of a request. Raises HTTPBadRequest for what is none."""
    if request.content_type != "application/json":  # what another site could send unasked
        raise web.HTTPUnsupportedMediaType(text="send application/json")
    try:
        return model.model_validate_json(await request.read())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise web.HTTPBadRequest(text=json.dumps({"error": f"{where}: {first['msg']}"})) from error
