"""Files and folders wherever they are: on this machine, or behind an address that fsspec or pyarrow can read.

A local file is a `Path`. What has an address with a scheme, such as s3://bucket/photos, is a `Remote`, which has as
much of a path's interface as reading takes. Credentials and endpoints are those of the environment, as the
filesystem's own library reads them.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from rambo_ray.errors import UserError

_PATIENCE_S = 30  # with a server that does not answer
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True)
class Remote:
    """A file or folder of another filesystem: `address` with its scheme, `path` as the filesystem knows it."""

    address: str
    path: str
    system: Any = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self.address

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return PurePosixPath(self.path).stem

    @property
    def suffix(self) -> str:
        """The last suffix, with its dot."""
        return PurePosixPath(self.path).suffix

    @property
    def parent(self) -> Remote:
        """The folder that holds it."""
        return Remote(self.address.rpartition("/")[0], self.path.rpartition("/")[0], self.system)

    def __truediv__(self, below: str) -> Remote:
        return Remote(f"{self.address.rstrip('/')}/{below}", f"{self.path.rstrip('/')}/{below}", self.system)

    def read_bytes(self) -> bytes:
        """All of the file."""
        return bytes(self.system.cat_file(self.path))


File = Path | Remote

_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket",
          stat.S_IFDIR: "a folder"}  # fmt: skip


def is_address(value: str) -> bool:
    """Whether a value names something by scheme, such as s3://."""
    return bool(_SCHEME.match(value))


def at(value: str, source: str) -> File:
    """What a configuration's value names, there or not. Raises UserError for a scheme that nothing here reads."""
    if not value.strip():
        raise UserError(f"{source}: empty; give a path or an address")
    if not is_address(value):
        try:
            return Path(value).expanduser()
        except RuntimeError as error:
            user = value.partition("/")[0]
            raise UserError(f"{source}: there is no user {user[1:]}; correct the path, or begin it with ./") from error
    if value.startswith("file://"):
        return Path(value.removeprefix("file://"))
    system, path = _filesystem(value, source)
    return Remote(value.rstrip("/"), path.rstrip("/"), system)


def exists(place: File, source: str) -> bool:
    """Whether there is a file or a folder. Raises UserError for what the system cannot look for, or that leads away."""
    if isinstance(place, Path):
        try:
            place.stat()
        except FileNotFoundError as error:
            if place.is_symlink():
                raise UserError(f"{source}: is a link to what is not there; correct the link") from error
            return False
        except NotADirectoryError:
            return False
        except (OSError, ValueError) as error:  # ValueError: a null character
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UserError(f"{source}: {reason}; correct the path") from error
        return True
    with reaching(source):
        return bool(place.system.exists(place.path))


def is_folder(place: File, source: str) -> bool:
    """Whether it is a folder; in object stores, whether anything lies below it."""
    if isinstance(place, Path):
        return place.is_dir()
    with reaching(source):
        return bool(place.system.isdir(place.path))


def is_to_be_read(file: Path) -> Path:
    """`file`, where it is one or is not there; UserError for a pipe or a device, whose reading might never end."""
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError):
        return file  # whoever opens it says what is wrong
    if not stat.S_ISREG(mode):
        raise UserError(f"is {_KINDS.get(stat.S_IFMT(mode), 'of an unknown kind')}, not a file; replace or remove it")
    return file


def content(file: File, source: str) -> bytes:
    """All of a file. Raises UserError, which names the `source`, where it cannot be read."""
    if isinstance(file, Remote):
        with reaching(source):
            return file.read_bytes()
    try:
        return is_to_be_read(file).read_bytes()
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    except OSError as error:
        raise UserError(f"{source}: {error.strerror}; make it readable") from error


def below(folder: File, source: str) -> list[str]:
    """The paths of all files below a folder, relative to it, with forward slashes, sorted.

    Hidden files and folders are passed over, links are followed, once. Raises UserError for what cannot be read.
    """
    if isinstance(folder, Path):
        return sorted(_walked(folder, source))
    with reaching(source):
        found = folder.system.find(folder.path)
    cut = len(folder.path) + 1
    relative = [path[cut:] for path in found if path.startswith(f"{folder.path}/")]
    return sorted(path for path in relative if not any(part.startswith(".") for part in path.split("/")))


def matching(pattern: str, source: str) -> tuple[File, list[str]]:
    """The folder in which a pattern such as photos/**/*.jpg begins, and the files that match, relative to it, sorted.

    Hidden files and folders are passed over.
    """
    fixed: list[str] = []
    parts = pattern.split("/")
    while len(fixed) < len(parts) - 1 and not has_magic(parts[len(fixed)]):
        fixed.append(parts[len(fixed)])
    base = at("/".join(fixed) or ("/" if pattern.startswith("/") else "."), source)
    from fsspec.utils import glob_translate

    try:
        rest = re.compile(glob_translate("/".join(parts[len(fixed) :])))
    except (ValueError, re.error) as error:
        raise UserError(f"{source}: {error}; correct the pattern (** stands for any folders, between two /)") from error
    if not (exists(base, source) and is_folder(base, source)):
        raise UserError(f"{source}: there is no folder {base}; correct the pattern")
    return base, [path for path in below(base, source) if rest.fullmatch(path)]


def has_magic(value: str) -> bool:
    """Whether a value is a pattern."""
    return any(letter in value for letter in "*?[")


def read_many(files: Sequence[File], source: str) -> list[bytes]:
    """The contents of files of one filesystem, several at a time where that is faster."""
    first = files[0] if files else None
    if not isinstance(first, Remote):
        return [content(file, str(file)) for file in files]
    paths = [file.path for file in files if isinstance(file, Remote)]
    with reaching(source):
        found = first.system.cat(paths, on_error="return")
    return [found[path] if isinstance(found[path], bytes) else b"" for path in paths]


@contextmanager
def opened(file: File) -> Iterator[BinaryIO]:
    """A file's content, for reading at any place in it."""
    if isinstance(file, Path):
        try:
            is_to_be_read(file)
        except UserError as error:
            raise UserError(f"{file}: {error}") from error
    with file.open("rb") if isinstance(file, Path) else file.system.open(file.path, "rb") as found:
        yield found


@contextmanager
def reaching(source: str) -> Iterator[None]:
    """What another filesystem's library raises, as a UserError in one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each library has its own, and they do not say which
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(
            f"{source}: cannot be read ({type(error).__name__}: {reason}); correct the address, the credentials or "
            "the endpoint of the environment"
        ) from error


def _filesystem(value: str, source: str) -> tuple[Any, str]:
    import fsspec

    try:
        return fsspec.core.url_to_fs(value)
    except ImportError as error:
        found = _of_pyarrow(value)
        if found is None:
            raise UserError(
                f"{source}: {' '.join(str(error).split())}; pip install that, or copy the data here"
            ) from error
        return found
    except ValueError as error:
        known = "s3://, gs://, hf://, https://, file:// and others of fsspec"
        raise UserError(f"{source}: {' '.join(str(error).split())}; give a path, or an address: {known}") from error


def _of_pyarrow(value: str) -> tuple[Any, str] | None:
    """pyarrow's own filesystem for an address, where fsspec lacks a package for it."""
    import pyarrow as pa
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    if value.startswith(("gs://", "gcs://")) and "?" not in value:
        value += f"?retry_limit_seconds={_PATIENCE_S}"  # else a quarter of an hour, also without credentials
    try:
        system, path = fs.FileSystem.from_uri(value)
    except (pa.ArrowException, OSError, ValueError):
        return None
    return ArrowFSWrapper(system), path


def _walked(folder: Path, source: str) -> Iterator[str]:
    entered: set[str] = set()

    def stop(error: OSError) -> None:
        raise UserError(f"{source}: {error.filename}: {error.strerror}; make it readable") from error

    for parent, folders, files in os.walk(folder, onerror=stop, followlinks=True):
        real = os.path.realpath(parent)
        if real in entered:  # a link back to where we have been
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        above = Path(parent).relative_to(folder).as_posix()  # once per folder: files may be millions
        prefix = "" if above == "." else f"{above}/"
        yield from (f"{prefix}{name}" for name in files if not name.startswith("."))
