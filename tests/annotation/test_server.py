"""The page's server, by its requests: who is let in, what is taken, what comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from rambo_ray.annotation import answers
from rambo_ray.annotation.answers import Answer
from rambo_ray.annotation.desk import Desk
from rambo_ray.annotation.server import HEADERS, About, Service, application, is_host
from rambo_ray.errors import UserError

TOKEN = "t_of_many_letters_123"
CLASSES = ("cat", "<img src=x onerror=alert(1)>", "Owl")
IDS = ("a/0.png", "<script>alert(1)</script>.png", "../../etc/passwd", "d.png")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(16) + b"\x08"


class Page:
    """A page of one annotator at a server."""

    def __init__(self, client: TestClient[Any, Any], annotator: str = "mia", page: str = "page of mia") -> None:
        self.client, self.who = client, {"annotator": annotator, "page": page}

    async def post(self, path: str, token: str = TOKEN, **content: Any) -> tuple[int, dict[str, Any]]:
        """Status and content of a reply."""
        response = await self.client.post(f"/{token}/{path}", json={**self.who, **content})
        text = await response.text()
        return response.status, json.loads(text) if text.startswith("{") else {"text": text}

    async def say(self, position: int, label: str | None = "cat", **more: Any) -> tuple[int, dict[str, Any]]:
        """An answer."""
        return await self.post("answer", **{"position": position, "id": IDS[position], "label": label, **more})


def served(work: Callable[[TestClient[Any, Any]], Awaitable[None]], log: Path, **how: Any) -> None:
    """Do `work` with a client of a server that keeps answers in `log`."""

    def picture(position: int) -> bytes:
        if position == 3:
            raise UserError("d.png: the disk is slow")
        return PNG

    async def main() -> None:
        writer = answers.Writer(log)
        desk = Desk(
            IDS, CLASSES, how.get("share", "split"), how.get("record", writer.append), answers.read(log).answers
        )
        service = Service(desk, picture, About("run", "mia", "rambo labels run"), lambda *_: None)
        async with TestClient(TestServer(application(service, TOKEN, "127.0.0.1", how.get("once", "")))) as client:
            await work(client)
        writer.close()

    asyncio.run(main())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where answers go."""
    return tmp_path / "labels.jsonl"


async def refused(response: ClientResponse, status: int) -> None:
    """Whether a reply says nothing of what is served."""
    assert response.status == status
    text = await response.text()
    assert TOKEN not in text and "a/0.png" not in text and "<html" not in text
    for name, value in HEADERS.items():
        assert response.headers[name] == value


@pytest.mark.parametrize(
    "path",
    ["/", "/label.js", f"/{TOKEN[:-1]}/", f"/{TOKEN}x/", f"/x{TOKEN}/request", "/%2F/request", "/%C3%A9/", "/../"],
)
def test_who_does_not_know_the_token_sees_nothing(path: str, log: Path) -> None:
    async def work(client: TestClient[Any, Any]) -> None:
        await refused(await client.get(path), 403)
        await refused(await client.post(path, json={}), 403)

    served(work, log)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "[::2]", "192.168.1.7"]
)
def test_a_name_that_others_point_at_this_machine_is_refused(host: str, log: Path) -> None:
    async def work(client: TestClient[Any, Any]) -> None:
        await refused(await client.get(f"/{TOKEN}/request", headers={"Host": host}), 421)

    served(work, log)


@pytest.mark.parametrize(
    ("name", "bound", "yes"),
    [
        ("localhost", "127.0.0.1", True),  # by way of ssh -L, on whatever port
        ("::1", "127.0.0.1", True),
        ("10.0.0.5", "127.0.0.1", False),
        ("10.0.0.5", "0.0.0.0", True),
        ("fe80::1", "::", True),
        ("evil.example", "0.0.0.0", False),
        ("box.example", "box.example", True),
        ("10.0.0.5", "box.example", False),
        ("", "0.0.0.0", False),
    ],
)
def test_how_a_request_may_name_the_server(name: str, bound: str, yes: bool) -> None:
    assert is_host(name, bound) is yes


def test_the_page_comes_with_all_it_needs_and_nothing_from_elsewhere(log: Path) -> None:
    async def work(client: TestClient[Any, Any]) -> None:
        for name, kind in {"": "html", "label.js": "javascript", "label.css": "css", "icon.svg": "svg"}.items():
            response = await client.get(f"/{TOKEN}/{name}")
            assert response.status == 200 and kind in response.headers["Content-Type"]
            assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
            text = (await response.text()).replace("http://www.w3.org/2000/svg", "")
            assert "http://" not in text and "https://" not in text and "//cdn" not in text
            assert " style=" not in text and " onclick=" not in text  # what the policy would forbid
        assert (await client.get(f"/{TOKEN}/server.py")).status == 404
        assert (await client.get(f"/{TOKEN}/%2e%2e/server.py")).status in (403, 404)

    served(work, log)


def test_answers_are_on_the_disk_before_the_reply(log: Path) -> None:
    async def work(client: TestClient[Any, Any]) -> None:
        mia = Page(client)
        status, reply = await mia.post("more", want=2)
        assert status == 200 and reply["images"] == [{"position": i, "id": IDS[i], "caption": IDS[i]} for i in (0, 1)]
        status, reply = await mia.say(0, "Owl", held=[1], want=2)
        assert status == 200 and reply["saved"] and [image["position"] for image in reply["images"]] == [2, 3]
        assert reply["standing"]["done"] == 1
        assert [(a.id, a.label) for a in answers.read(log).answers] == [("a/0.png", "Owl")]
        await mia.say(1, CLASSES[1])
        await mia.say(2, None, rejected=True)
        await mia.say(3, None, skipped=True)
        said = answers.read(log).answers
        assert [(a.id, a.label, a.rejected, a.skipped) for a in said[1:]] == [
            (IDS[1], CLASSES[1], False, False),
            (IDS[2], None, True, False),
            (IDS[3], None, False, True),
        ]
        assert {a.annotator for a in said} == {"mia"}

    served(work, log)


def test_an_answer_sent_twice_is_written_once(log: Path) -> None:
    async def work(client: TestClient[Any, Any]) -> None:
        mia = Page(client)
        replies = await asyncio.gather(*(mia.say(0) for _ in range(5)))
        assert all(status == 200 and reply["saved"] for status, reply in replies)
        assert (await mia.say(0, "Owl"))[1] | {"standing": 0} == {
            "saved": False, "by": "mia", "images": [], "lost": [], "standing": 0,
        }  # fmt: skip

    served(work, log)
    assert len(answers.read(log).answers) == 1


def test_undo_and_the_history_of_a_page_that_comes_again(log: Path) -> None:
    async def work(client: TestClient[Any, Any]) -> None:
        mia = Page(client)
        await mia.say(0)
        await mia.say(1)
        assert (await mia.post("undo", position=1, id=IDS[1]))[1]["saved"]
        again = Page(client, page="another of mia")
        _, reply = await again.post("more", want=9)
        assert [image["position"] for image in reply["history"]] == [0]
        assert [image["position"] for image in reply["images"]] == [2, 3]  # 1 is still the first page's
        assert (await mia.post("release"))[0] == 200
        _, reply = await again.post("more", held=[2, 3], want=9)
        assert [image["position"] for image in reply["images"]] == [1]

    served(work, log)
    assert [answer.undo for answer in answers.read(log).answers] == [False, False, True]


def test_two_annotators_never_have_the_same_image(log: Path) -> None:
    async def work(client: TestClient[Any, Any]) -> None:
        mia, ben = Page(client), Page(client, "ben", "page of ben")
        _, hers = await mia.post("more", want=2)
        _, his = await ben.post("more", want=9)
        assert [image["position"] for image in hers["images"]] == [0, 1]
        assert [image["position"] for image in his["images"]] == [2, 3]
        assert (await ben.say(0))[1]["by"] == "mia"

    served(work, log)
    assert answers.read(log).answers == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"id": "nobody.png"}, "not of this selection"),
        ({"position": 99}, "not of this selection"),
        ({"position": -1}, "not of this selection"),
        ({"position": "0"}, "position"),
        ({"label": "dog"}, "no such class"),
        ({"label": None}, "exactly one"),
        ({"rejected": True}, "exactly one"),
        ({"annotator": ""}, "1 to 60 letters"),
        ({"annotator": "x" * 61}, "1 to 60 letters"),
        ({"page": "x"}, "page"),
        ({"more": 1}, "more"),
        ({"held": ["0"]}, "held"),
    ],
)
def test_what_no_page_would_send_is_refused(content: dict[str, Any], words: str, log: Path) -> None:
    async def work(client: TestClient[Any, Any]) -> None:
        said = {"position": 0, "id": IDS[0], "label": "cat", **content}
        status, reply = await Page(client).post("answer", **said)
        assert status == 400 and words in reply["error"]

    served(work, log)
    assert log.read_bytes() == b""


def test_what_other_sites_can_send_unasked_is_no_answer(log: Path) -> None:
    async def work(client: TestClient[Any, Any]) -> None:
        body = json.dumps({"annotator": "mia", "page": "page of mia", "position": 0, "id": IDS[0], "label": "cat"})
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            response = await client.post(f"/{TOKEN}/answer", data=body, headers={"Content-Type": kind})
            assert response.status == 415
        response = await client.post(f"/{TOKEN}/answer", data="{", headers={"Content-Type": "application/json"})
        assert response.status == 400
        assert (await client.get(f"/{TOKEN}/answer")).status == 405

    served(work, log)
    assert log.read_bytes() == b""


def test_images_are_found_by_position_and_never_by_name(log: Path) -> None:
    async def work(client: TestClient[Any, Any]) -> None:
        response = await client.get(f"/{TOKEN}/image/2")
        assert response.status == 200 and await response.read() == PNG
        assert response.headers["Content-Type"] == "image/png"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        for path in ("4", "-1", "1.0", "..%2f..%2fetc%2fpasswd", "../../etc/passwd", "9" * 30, "a/0.png", ""):
            assert (await client.get(f"/{TOKEN}/image/{path}")).status in (403, 404), path
        response = await client.get(f"/{TOKEN}/image/3")
        assert response.status == 404 and await response.text() == "d.png: the disk is slow"
        assert response.headers["Content-Type"].startswith("text/plain")

    served(work, log)


def test_a_full_disk_is_said_and_the_image_stays(log: Path) -> None:
    def full(_: Answer) -> None:
        raise OSError(28, "No space left on device")

    async def work(client: TestClient[Any, Any]) -> None:
        status, reply = await Page(client).say(0)
        assert status == 507 and "No space left" in reply["error"]
        _, reply = await Page(client).post("more", want=1)
        assert reply["images"][0]["position"] == 0 and reply["standing"]["done"] == 0

    served(work, log, record=full)


def test_what_is_asked(log: Path) -> None:
    async def work(client: TestClient[Any, Any]) -> None:
        asked = await (await client.get(f"/{TOKEN}/request")).json()
        assert asked["classes"] == list(CLASSES) and asked["keys"] == ["1", "2", "3"]
        assert (asked["total"], asked["share"], asked["annotator"]) == (4, "split", "mia")
        assert asked["next_command"] == "rambo labels run"

    served(work, log)


def test_a_browser_is_started_with_an_address_that_works_once(log: Path) -> None:
    async def work(client: TestClient[Any, Any]) -> None:
        response = await client.get("/one_time", allow_redirects=False)
        assert response.status == 303 and response.headers["Location"] == f"/{TOKEN}/"
        await refused(await client.get("/one_time", allow_redirects=False), 403)
        assert (await client.get(f"/{TOKEN}/")).status == 200

    served(work, log, once="one_time")


def test_without_one_nothing_leads_to_the_page_but_the_token(log: Path) -> None:
    async def work(client: TestClient[Any, Any]) -> None:
        await refused(await client.get("/", allow_redirects=False), 403)

    served(work, log)
