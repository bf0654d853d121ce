"""Files on a disk: written beside their place and renamed or linked, so that nobody sees half of one.

Whoever writes a file holds a lock on it until it is closed. So a file that was left half written by a process that was
killed can be told from one that is being written: the kernel gives up the locks of the dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial"
"""How the name of a file ends that is being written."""


@contextlib.contextmanager
def beside(target: str, *, lasting: bool = True) -> Iterator[tuple[BinaryIO, str]]:
    """Open a file beside its place, and remove it at the end unless it was renamed. Yields it and its path.

    :param lasting: whether its content outlives a power cut when the block has ended.
    """
    partial = partial_name(target)
    try:
        with open(partial, "xb", buffering=-1 if lasting else 0, opener=private) as file:
            with contextlib.suppress(OSError):  # a network disk that knows no locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file, partial
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)  # noqa: PTH108


@contextlib.contextmanager
def replacing(target: str, *, lasting: bool = True) -> Iterator[BinaryIO]:
    """Open a file that replaces another one, or none, when the block has ended, and not if it fails."""
    with beside(target, lasting=lasting) as (file, partial):
        yield file
        if lasting:
            settle(file)
        os.replace(partial, target)  # noqa: PTH105
    if lasting:
        settle_folder(target)


def create(target: str, content: bytes) -> bool:
    """Write a file if there is none, and return whether it was; then it outlives a power cut. Of two at once, one does."""
    try:
        with beside(target) as (file, partial):
            file.write(content)
            settle(file)
            os.link(partial, target)
    except FileExistsError:
        return False
    settle_folder(target)
    return True


def link(source: str, target: str) -> None:
    """Let a file have another name, over another file if there is one; copy it where a disk knows no links."""
    if not os.path.exists(source):  # noqa: PTH110
        raise FileNotFoundError
    partial = partial_name(target)
    try:
        os.link(source, partial)
    except OSError:
        with replacing(target) as file, Path(source).open("rb") as original:
            shutil.copyfileobj(original, file)
        return
    os.replace(partial, target)  # noqa: PTH105
    settle_folder(target)


def remove_dead(folder: str, begins: str) -> None:
    """Remove what killed processes left half written in a folder, of files whose names begin so."""
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if name.startswith(f".{begins}") and name.endswith(PARTIAL):
            with contextlib.suppress(OSError):  # it is being written, or another process has removed it
                _remove_unlocked(f"{folder}/{name}")


def _remove_unlocked(path: str) -> None:
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)  # noqa: PTH108


def settle(file: BinaryIO) -> None:
    """Have a file's content outlive a power cut."""
    file.flush()
    os.fsync(file.fileno())


def settle_folder(path: str) -> None:
    """Have the name of a file outlive a power cut: its folder is a file of its own."""
    descriptor = os.open(path.rpartition("/")[0] or "/", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def partial_name(path: str) -> str:
    """Name a file that is being written: each writer's own, beside its place, and hidden from who lists results."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{secrets.token_hex(4)}{PARTIAL}"


def private(path: str, flags: int) -> int:
    """Open a file that its owner alone can read."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are not there, for their owner only; those that are there stay as they are."""
    if folder.is_dir():
        return
    make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    settle_folder(str(folder))
