"""One server for one folder."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rambo_ray.annotation import tenancy
from rambo_ray.errors import UserError

HOLDS = """
import sys, time
from pathlib import Path
from rambo_ray.annotation import tenancy
with tenancy.taken(Path(sys.argv[1])) as held:
    held.serve_at("http://127.0.0.1:9999/" + held.token + "/", 9999)
    print(held.token, flush=True)
    time.sleep(60)
"""


def test_a_second_server_is_refused_and_told_where_the_first_is_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        token = first.stdout.readline().strip()
        with (
            pytest.raises(UserError, match=f"http://127.0.0.1:9999/{token}/ .process {first.pid}, since "),
            tenancy.taken(tmp_path),
        ):
            pass
        first.send_signal(signal.SIGKILL)
        first.wait()
        with tenancy.taken(tmp_path) as held:
            assert (held.token, held.port) == (token, 9999)  # the page that was open goes on


def test_the_lock_ends_with_its_block_and_only_its_owner_may_read_the_token(tmp_path: Path) -> None:
    for _ in range(2):
        with tenancy.taken(tmp_path) as held:
            held.serve_at("http://x/", 1)
    assert stat.S_IMODE((tmp_path / tenancy.LOCK).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"token": 7, "port": "x"}', '{"token": "short"}', '{"token": "../../../../../../../x"}']
)
def test_a_damaged_lock_file_is_made_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / tenancy.LOCK).write_text(content)
    with tenancy.taken(tmp_path) as held:
        assert len(held.token) >= 20 and "/" not in held.token and held.port is None


def test_tokens_differ(tmp_path: Path) -> None:
    tokens = set()
    for name in "abc":
        (tmp_path / name).mkdir()
        with tenancy.taken(tmp_path / name) as held:
            tokens.add(held.token)
    assert len(tokens) == 3
