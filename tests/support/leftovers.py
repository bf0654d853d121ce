"""What a run of Airflow left behind, as text to be searched, and the secrets that went over the wire in it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.sandbox import Sandbox


class Leftovers:
    """Every file below some folders, databases and logs alike, and the secrets that the sandbox saw."""

    def __init__(self, folders: list[Path], sandbox: Sandbox, **texts: str) -> None:
        self.texts = texts
        for folder in folders:
            for path in folder.rglob("*"):
                if path.is_file():
                    self.texts[str(path.relative_to(folder))] = path.read_bytes().decode("utf-8", "replace")
        ledger = sandbox.ledger()
        headers = [value for entry in ledger for name, value in entry["headers"] if name.lower() == "authorization"]
        self.tokens = {header.removeprefix("Bearer ") for header in headers}
        self.assertions = {found for entry in ledger for found in re.findall(r"client_assertion=([^&]+)", entry["body"])}
        body = "".join(line for line in sandbox.connection["password"].splitlines() if "-----" not in line)
        self.key_parts = {body[start : start + 24] for start in range(100, len(body) - 24, 24)}

    def holding(self, secrets: set[str]) -> list[str]:
        """Name the texts that hold one of the secrets."""
        return sorted(name for name, text in self.texts.items() if any(secret in text for secret in secrets))
