"""What a run of Airflow left behind, as text to be searched, and the secrets that went over the wire in it."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.security.witness import forms
from tests.support.sandbox import Sandbox


class Leftovers:
    """Every file below some folders, databases and logs alike, every row of every table, and the secrets that were seen.

    :param kept: names of folders that hold what is meant to be there, such as results; they are left out.
    """

    audit = ""
    """The record of disclosures, which is no leftover: patients belong there."""

    purged: Leftovers
    """What is left of the results when they were purged, with the certificate."""

    certificate: dict[str, Any]

    def __init__(self, folders: list[Path], sandbox: Sandbox, *, kept: Iterable[str] = (), **texts: str) -> None:
        self.texts = texts
        for folder in folders:
            for path in folder.rglob("*"):
                if path.is_file() and not set(kept) & set(path.relative_to(folder).parts):
                    self.texts[str(path.relative_to(folder))] = path.read_bytes().decode("utf-8", "replace")
                    if path.suffix == ".db":
                        self.texts |= {f"table {name}": rows for name, rows in tables(path).items()}
        ledger = sandbox.ledger()
        headers = [value for entry in ledger for name, value in entry["headers"] if name.lower() == "authorization"]
        self.tokens = {header.removeprefix("Bearer ") for header in headers}
        self.assertions = {found for entry in ledger for found in re.findall(r"client_assertion=([^&]+)", entry["body"])}
        self.key = sandbox.connection["password"]

    @property
    def key_parts(self) -> set[str]:
        """Pieces of 24 characters of the private key."""
        body = "".join(line for line in self.key.splitlines() if "-----" not in line)
        return {body[start : start + 24] for start in range(100, len(body) - 24, 24)}

    def holding(self, secrets: Iterable[str]) -> list[str]:
        """Name the texts that hold one of the secrets, in any form that a value may take on its way."""
        wanted = re.compile("|".join(re.escape(form) for secret in secrets for form in sorted(forms(secret))) or "(?!)")
        return sorted(name for name, text in self.texts.items() if wanted.search(text))


def tables(database: Path) -> dict[str, str]:
    """Dump a SQLite database whole: each table's rows as text, blobs decoded."""
    with contextlib.closing(sqlite3.connect(database)) as opened:
        found = [name for (name,) in opened.execute("select name from sqlite_master where type = 'table'")]
        return {name: "\n".join(map(_row, opened.execute(f'select * from "{name}"'))) for name in found}


def _row(row: tuple[object, ...]) -> str:
    return " | ".join(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in row)
