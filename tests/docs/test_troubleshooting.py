"""What the page on troubleshooting quotes is what the code says, and what the code says is on the page."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from airflow_provider_redox import exceptions
from tests.docs.pages import ROOT, code_words, rows, text

QUOTED = re.findall(r"^`([^`]+)`\n: ", text("troubleshooting"), re.MULTILINE)
HOLE = "\0"

CLASSES = [name for name, one in vars(exceptions).items() if isinstance(one, type)]
MAKERS = {*CLASSES, "beyond_help", "no_credentials", "refused"}
"""What makes an error of the words that it is called with."""

NEEDS_NO_ENTRY = {
    "says what is wanted of an argument or a field": (
        r"\bmust (be|begin|hold|name|not|stay)\b|give one of|is needed$",
        r"\bneeds (a|the|search_params) |a time with a zone, such as ",
        r": missing(;| in the )",
        r"should look like|known are|has no such name; |may hold letters, digits",
    ),
    "says what to do": (r"[;:] (encode|give|install|leave|look at|make|paste|remove|say|see) |Use window$",),
    "says all that is to be said of an argument": (
        r"its end lies before its start",
        r"holds half of a character|a header name holds a character|an empty or dotted ID",
        r"cannot be set on a redox connection",
        r"stands there a second time",
        r"gave no manifest$|is not JSON, or no object",
        r"has more than .* bytes|is longer than any resource",
        r"points outside the connection's host|knows no such version of the key|not a line of the list of documents",
    ),
    "is shown inside another message that has an entry, or to nobody": (
        r"^not JSON: |^manifests\[|^the log search (has too many pages|names a next page)",
        r"^neither a Data Model message|^not sent: the batch is being ended",
    ),
}
"""Why a message may do without an entry, and the words that tell. Who adds a message gives it an entry, or a place here."""


def words(node: ast.AST) -> str:
    """Give the text of an expression, with a mark where something is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.BinOp):
        return words(node.left) + words(node.right)
    return "".join(map(words, node.values)) if isinstance(node, ast.JoinedStr) else HOLE


def nodes() -> Iterator[tuple[str, ast.AST]]:
    """Give every node of the package's sources, each with the file that it is in."""
    for path in sorted((ROOT / "airflow_provider_redox").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            yield str(path.relative_to(ROOT)), node


NODES = list(nodes())


def raised() -> Iterator[tuple[str, str]]:
    """Give each message of a Redox error, with the place that makes it. What only passes on others' words is left out."""
    for path, node in NODES:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS:
            message = " ".join(map(words, node.args))
            if len(message.replace(HOLE, " ").split()) > 1:
                yield f"{path}:{node.lineno}", message


def pattern(quoted: str) -> str:
    """Give what finds a quotation: where it has an ellipsis something is filled in."""
    return re.escape(quoted).replace("…", f"[^\n{HOLE}]*{HOLE}[^\n]*").removeprefix(f"[^\n{HOLE}]*")


SAID = "\n\n".join(words(node) for _, node in NODES if isinstance(node, ast.Constant | ast.JoinedStr))
RAISED = list(raised())
UNQUOTED = [(place, said) for place, said in RAISED if not any(re.search(pattern(one), said) for one in QUOTED)]
SELF_EXPLAINING = [one for reason in NEEDS_NO_ENTRY.values() for one in reason]


def test_the_page_quotes():
    """Each entry of the page is found, and has words enough to be looked for."""
    assert len(QUOTED) == len(set(QUOTED)) == len(re.findall(r"^: ", text("troubleshooting"), re.MULTILINE)) > 30
    assert all(len(quoted.replace("…", "").strip()) > 10 for quoted in QUOTED)


@pytest.mark.parametrize("quoted", QUOTED)
def test_what_is_quoted_is_said(quoted: str):
    """The text stands in the sources as it is quoted, and where it has an ellipsis something is filled in."""
    assert re.search(pattern(quoted), SAID), quoted


def test_what_is_said_is_quoted():
    """Each message of a Redox error is quoted on the page, or is of a kind that needs no entry."""
    assert len(RAISED) > 300
    missing = [": ".join(one) for one in UNQUOTED if not any(re.search(kind, one[1]) for kind in SELF_EXPLAINING)]
    assert not missing, "\n".join(missing).replace(HOLE, "…")


@pytest.mark.parametrize("kind", SELF_EXPLAINING)
def test_what_needs_no_entry_is_said(kind: str):
    """No kind outlives the messages that it was made for."""
    assert any(re.search(kind, said) for _, said in UNQUOTED)


def test_each_kind_of_error_says_what_to_do_first():
    """The table at the top has every error class, in the tree's order, with something to do and a way on."""
    table = rows("troubleshooting", "Error")
    assert [code_words(row[0]) for row in table] == [[name] for name in CLASSES]
    assert all(len(row) == 3 and row[1].endswith(".") and re.search(r"\]\((#|errors\.md)", row[2]) for row in table)
