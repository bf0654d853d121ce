"""The page of results, in which each measurement that is run by itself has a section."""

from __future__ import annotations

import re
from pathlib import Path


def put(section: str, heading: str, page: Path) -> None:
    """Write a section into the page, in place of an older one under the same heading."""
    text = page.read_text()
    old = re.search(rf"^{re.escape(heading)}$.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    page.write_text(text.replace(old.group(), f"{section}\n") if old else f"{text.rstrip()}\n\n{section}")
