"""Files whole or not at all: what is left of those that fail or are killed, and what is said of a full disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rambo_ray import files
from rambo_ray.files import WriteError, remove_leftovers, replacing, set_aside, temporary_name

WRITES = """
import os, sys
from pathlib import Path
from rambo_ray.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print(temporary.name, flush=True)
    if sys.argv[2] == "dies":
        os.kill(os.getpid(), 9)
    sys.stdin.readline()
"""


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class TestReplacing:
    @pytest.mark.parametrize("error", [ValueError("a mistake"), KeyboardInterrupt()])
    def test_a_failure_leaves_the_old_file_and_nothing_beside_it(self, tmp_path: Path, error: BaseException) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")
        with pytest.raises(type(error)), replacing(path) as temporary:
            temporary.write_text("half")
            raise error
        assert names(tmp_path) == ["a.txt"] and path.read_text() == "old"

    def test_two_at_once_have_names_of_their_own(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        with replacing(path) as first, replacing(path) as second:
            assert first != second and first.parent == second.parent == tmp_path
            first.write_text("1")
            second.write_text("2")
        assert path.read_text() == "1" and names(tmp_path) == ["a.txt"]

    def test_the_longest_name_that_a_file_can_have(self, tmp_path: Path) -> None:
        path = tmp_path / ("x" * 255)
        with replacing(path) as temporary:
            temporary.write_text("whole")
        assert path.read_text() == "whole"

    def test_what_must_survive_is_on_the_disk_before_it_has_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done: list[str] = []
        sync, replace = os.fsync, os.replace

        def synced(opened: int) -> None:
            done.append(Path(os.readlink(f"/proc/self/fd/{opened}")).name)
            sync(opened)

        def replaced(source: Path, target: Path) -> None:
            done.append("renamed")
            replace(source, target)

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "replace", replaced)
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("whole")
        assert done == [temporary.name, "renamed", tmp_path.name]
        done.clear()
        with replacing(tmp_path / "b", durable=False) as temporary:
            temporary.write_text("can be had again")
        assert done == ["renamed"]

    @pytest.mark.parametrize(
        ("number", "said"),
        [
            (errno.ENOSPC, "a: No space left on device ("),
            (errno.EDQUOT, "a: Disk quota exceeded ("),
            (errno.EROFS, "a: Read-only file system; make it writable, then run the same command again"),
            (errno.EIO, "a: cannot be written (Input/output error); see to it, then run the same command again"),
        ],
    )
    def test_what_the_system_says_is_one_line_with_a_remedy(self, tmp_path: Path, number: int, said: str) -> None:
        with pytest.raises(WriteError) as error, replacing(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise OSError(number, os.strerror(number))
        line = str(error.value)
        assert line.startswith(str(tmp_path / said)) and line.splitlines() == [line] and names(tmp_path) == []
        if number in (errno.ENOSPC, errno.EDQUOT):
            assert " MB are free); make room there, then run the same command again: it goes on where" in line

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        gone = replacing(tmp_path / "none" / "a")
        with pytest.raises(WriteError, match="cannot be written .No such file or directory"), gone as temporary:
            temporary.write_text("half")


class TestLeftovers:
    def test_of_a_killed_process_only(self, tmp_path: Path) -> None:
        (tmp_path / "fit").mkdir()
        code = [sys.executable, "-c", WRITES]
        killed = subprocess.run([*code, str(tmp_path / "fit" / "a.pt"), "dies"], capture_output=True, text=True)
        with subprocess.Popen(
            [*code, str(tmp_path / "b.txt"), "waits"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as alive:
            assert alive.stdout is not None and alive.stdin is not None
            writing = alive.stdout.readline().strip()
            dead = killed.stdout.strip()
            assert names(tmp_path) == sorted([writing, "fit", f"fit/{dead}"])
            assert remove_leftovers(tmp_path) == [tmp_path / "fit" / dead]
            alive.stdin.write("\n")
            alive.stdin.flush()
            alive.wait()
        assert names(tmp_path) == ["b.txt", "fit"]

    def test_another_machine_s_count_when_they_are_old(self, tmp_path: Path) -> None:
        new, old, earlier = (
            tmp_path / name
            for name in (".a.csv.0123abcd-7-89abcdef.tmp", ".b.0123abcd-7-89abcdef.tmp", ".c.csv.12.tmp")
        )
        for path in (new, old):
            path.write_text("half")
        earlier.mkdir()  # a folder, as versions before this one named them
        (earlier / "inside").write_text("half")
        long_ago = time.time() - files.OLD_S - 60
        for path in (old, earlier):
            os.utime(path, (long_ago, long_ago))
        assert sorted(remove_leftovers(tmp_path)) == [old, earlier]
        assert names(tmp_path) == [new.name]

    def test_nothing_of_anybody_else_s(self, tmp_path: Path) -> None:
        others = [".a.tmp", "a.0123abcd-7-89abcdef.tmp", ".vimrc", ".a.12.tmp.txt", ".a.zzzzzzzz-7-89abcdef.tmp"]
        for name in others:
            (tmp_path / name).write_text("mine")
            os.utime(tmp_path / name, (0, 0))
        assert remove_leftovers(tmp_path) == [] and names(tmp_path) == sorted(others)

    def test_a_name_says_whose_it_is(self, tmp_path: Path) -> None:
        made = temporary_name(tmp_path / "a.txt")
        assert files.is_temporary(made) and f".{files.machine()}-{os.getpid()}-" in made.name
        assert not files.is_temporary(tmp_path / "a.txt")


def test_what_is_damaged_is_set_aside_under_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    for number, name in enumerate(["state.pt.damaged", "state.pt.damaged1", "state.pt.damaged2"]):
        path.write_text(str(number))
        assert set_aside(path) == tmp_path / name and (tmp_path / name).read_text() == str(number)
    assert not path.exists()
