"""What the page on troubleshooting quotes is what the code says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.pages import ROOT, text

QUOTED = re.findall(r"^`([^`]+)`\n: ", text("troubleshooting"), re.MULTILINE)
HOLE = "\0"


def sentences() -> Iterator[str]:
    """Every text in the package's sources, with a mark where something is filled in."""
    for path in (ROOT / "airflow_provider_redox").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else HOLE for part in node.values)


SAID = "\n\n".join(sentences())


def test_the_page_quotes():
    """Each entry of the page is found, and has words enough to be looked for."""
    assert len(QUOTED) == len(set(QUOTED)) == len(re.findall(r"^: ", text("troubleshooting"), re.MULTILINE)) > 30
    assert all(len(quoted.replace("…", "").strip()) > 10 for quoted in QUOTED)


@pytest.mark.parametrize("quoted", QUOTED)
def test_what_is_quoted_is_said(quoted: str):
    """The text stands in the sources as it is quoted, and where it has an ellipsis something is filled in."""
    pattern = re.escape(quoted).replace("…", f"[^\n{HOLE}]*{HOLE}[^\n]*")
    assert re.search(pattern, SAID), quoted
