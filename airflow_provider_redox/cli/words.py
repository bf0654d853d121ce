"""How the commands speak: words for people on stderr, the product on stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


class UsageError(Exception):
    """The command was not used rightly; the message is a sentence with the cure. Exit status 2."""


def say(text: str) -> None:
    """Tell people something."""
    sys.stderr.write(f"{text}\n")


def put(text: str) -> None:
    """Give out a line of the product."""
    sys.stdout.write(f"{text}\n")


def as_json(document: Any) -> str:
    """Write a document as JSON that people can read."""
    return json.dumps(document, indent=2)


def read_text(name: str, option: str) -> str:
    """Read the file that an option names, `-` being stdin. Raises `UsageError` with nothing of what it holds."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        text = None  # the complaint is made outside: a UnicodeDecodeError holds the whole file
    if text is None:
        raise UsageError(f"{option}: cannot be read as a text file")
    return text
