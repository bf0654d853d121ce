"""Write files on a disk atomically: beside their final place, then renamed or linked, so that nobody sees half of one.

A process holds a lock on a file while it writes it. So a partial file of a killed process differs from one that is still
being written: the kernel releases the locks of a process that ended.
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
"""The suffix of a file that is being written."""


@contextlib.contextmanager
def beside(target: str, *, lasting: bool = True) -> Iterator[tuple[BinaryIO, str]]:
    """Open a temporary file beside a final place, and remove it at the end unless it was renamed. Yields file and path.

    :param lasting: whether to sync the content at the end of the block, so that it survives a power cut.
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
    """Open a file that takes its final name, replacing an existing file, when the block ends without an error."""
    with beside(target, lasting=lasting) as (file, partial):
        yield file
        if lasting:
            settle(file)
        os.replace(partial, target)  # noqa: PTH105
    if lasting:
        settle_folder(target)


def create(target: str, content: bytes) -> bool:
    """Create a file exclusively, synced to disk, and return whether this call created it.

    Of two concurrent calls, one does.
    """
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
    """Link a file to another name, replacing an existing file; copy it if the file system has no hard links."""
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
    """Remove partial files of killed processes from a folder, if their names begin with this prefix."""
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
    """Sync a file's content, so that it survives a power cut."""
    file.flush()
    os.fsync(file.fileno())


def settle_folder(path: str) -> None:
    """Sync a folder, so that the names in it survive a power cut."""
    descriptor = os.open(path.rpartition("/")[0] or "/", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def partial_name(path: str) -> str:
    """Return the name of a partial file: unique for each writer, beside the final place, hidden from listings of results."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{secrets.token_hex(4)}{PARTIAL}"


def private(path: str, flags: int) -> int:
    """Open a file that only its owner can read."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def make_private(folder: Path) -> None:
    """Create a folder and its missing parents for their owner only; existing folders stay as they are."""
    if folder.is_dir():
        return
    make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    settle_folder(str(folder))
