"""What somebody could have seen: errors with their whole chain, pickled too, logs at DEBUG, what was printed, files.

A secret is looked for in every form that a value may take on its way.
"""

from __future__ import annotations

import base64
import json
import logging
import pickle
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

SHORTEST = 8
"""Characters; a shorter piece of a secret would be found by chance."""


def forms(secret: str) -> set[str]:
    """Give a secret as it is, JSON-escaped, as a repr, URL-quoted, in base64 wherever it begins, and line by line."""
    lines = [line.strip() for line in secret.splitlines() if len(line.strip()) >= SHORTEST and "-----" not in line]
    found = {secret, secret.strip(), *lines}
    found |= {json.dumps(one)[1:-1] for one in found} | {repr(one)[1:-1] for one in found}
    found |= {quote(one, safe="") for one in found} | {quote_plus(one) for one in found}
    found |= {piece for one in (secret, *lines) for piece in in_base64(one)}
    return {one for one in found if len(one) >= SHORTEST}


def in_base64(secret: str) -> Iterator[str]:
    """Give the part of the base64 of any text with the secret in it that is the same whatever stands around it."""
    raw = secret.encode()
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        inner = encoded[-(-shift * 8 // 6) : len(encoded) - 1]
        if len(inner) >= SHORTEST:
            yield inner
            yield inner.translate(str.maketrans("+/", "-_"))


def chain(error: BaseException) -> str:
    """Give all that an error carries: its causes and contexts, suppressed ones too, their notes, reprs and pickles."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__]
    return "\n".join(text for one in seen for text in _told(one))


def _told(error: BaseException) -> Iterator[str]:
    yield from traceback.format_exception(error)
    yield repr(error)
    yield repr(getattr(error, "__notes__", ()))
    yield repr(vars(error))
    yield repr(error.args)
    yield pickle.dumps(error).decode("latin-1")


def logged(records: Iterable[logging.LogRecord]) -> str:
    """Give all that was logged, arguments and tracebacks included."""
    formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
    return "\n".join(f"{formatter.format(record)} {record.args!r} {vars(record)!r}" for record in records)


def written(folder: Path) -> str:
    """Give the names and the contents of every file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "\n".join(f"{path} {path.read_bytes().decode('latin-1')}" for path in files)


def holding(text: str, *secrets: str) -> list[str]:
    """Name the forms of secrets that a text holds."""
    return sorted(form for secret in secrets for form in forms(secret) if form in text)
