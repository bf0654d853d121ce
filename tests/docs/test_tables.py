"""The tables of the pages say what the code does, row for row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_provider_redox import exceptions
from airflow_provider_redox.get_provider_info import get_provider_info
from airflow_provider_redox.protocol.effects import Failure, Happened, Metric, RedoxResponse, Stage
from airflow_provider_redox.protocol.outcomes import STAGES, STATUSES, UNREADABLE, RetryPolicy, decide
from airflow_provider_redox.protocol.settings import EXTRA_FIELDS
from airflow_provider_redox.sandbox import cli
from airflow_provider_redox.sandbox.control import HANDLERS
from airflow_provider_redox.sandbox.faults import KINDS
from airflow_provider_redox.sandbox.settings import CHECKS
from tests.docs.pages import DOCS, ROOT, code_words, pages, rows, text


def answers(*statuses: int, **headers: str) -> list[Happened]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return [RedoxResponse(status, names) for status in statuses]


def failure(stage: Stage, status: int = 0) -> list[Happened]:
    return [Failure(stage, "why", status)]


_SPECIAL = {*STATUSES, 503}
_SHORT = {*range(100, 104), *range(300, 400)} - {307, 308}
HAPPENED: dict[str, list[Happened]] = {
    "2xx with the answer that was promised": answers(200, 201, 202, 203, 204, 205, 207, 226),
    "2xx, and the body is cut off": failure(Stage.CUT, 200),
    "2xx, and the body is above 64 MB": failure(Stage.OVERSIZE, 200),
    "206, a part of an answer": answers(206),
    "307, 308": answers(307, 308),
    "1xx, any other 3xx": answers(*sorted(_SHORT)),
    "401": answers(401),
    "408, 460, 499": answers(408, 460, 499),
    "409": answers(409),
    "425, 429": answers(425, 429),
    "any other 4xx": answers(*(status for status in range(400, 500) if status not in _SPECIAL)),
    "501, 505": answers(501, 505),
    "503 with `Retry-After`": answers(503, retry_after="5"),
    "any other 5xx": answers(503, *(status for status in range(500, 600) if status not in _SPECIAL)),
    "no connection, nothing was sent": failure(Stage.UNSENT),
    "the server's certificate was refused": failure(Stage.UNTRUSTED),
    "sent, at least in part, and no answer": failure(Stage.UNANSWERED),
}
"""What each row of the table on the page on outcomes speaks of."""

UNREADABLE_ROW = "2xx with anything else: HTML, no `Meta`, not a Bundle"


def outcome_rows() -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in rows("outcomes", "What happened")}


@pytest.mark.parametrize("happened", HAPPENED)
def test_the_outcome_table_is_what_decides(happened: str):
    """Each cell of the table on the page is the step that the code takes."""
    shown = outcome_rows()[happened]
    for one in HAPPENED[happened]:
        assert [decide(one, repeatable=True).value, decide(one, repeatable=False).value] == shown


def test_the_outcome_table_is_whole():
    """The page has a row for all that the code tells apart, and no other."""
    assert list(outcome_rows()) == [*list(HAPPENED)[:1], UNREADABLE_ROW, *list(HAPPENED)[1:]]
    assert outcome_rows()[UNREADABLE_ROW] == [UNREADABLE.repeatable.value, UNREADABLE.unsafe.value]
    told = [one for row in HAPPENED.values() for one in row]
    assert {one.stage for one in told if isinstance(one, Failure)} == set(STAGES) == set(Stage)
    assert set(STATUSES) <= {one.status for one in told}


def test_the_patience_on_the_page_is_the_policy():
    """Tries, pauses and deadlines in the text are the defaults of RetryPolicy."""
    assert RetryPolicy() == RetryPolicy(5, base=1, cap=60, rate_limit_floor=30, retry_after_cap=300, deadline=900)
    assert "up to five tries within 15 minutes" in text("outcomes")


def test_the_pace_on_the_page_is_the_code():
    """Parts and pauses on the page about the quota are those of the code."""
    from airflow_provider_redox.client import asynchronous, pacing
    from airflow_provider_redox.protocol import pacing as rules

    assert (pacing.WINDOW, rules.AT_ONCE, rules.CUT, rules.PLATEAU, asynchronous.AT_MOST) == (300, 0.5, 0.75, 0.9, 16)
    words = (
        "in any five minutes",
        "Half of it may go at once",
        "three quarters",
        "nine tenths",
        "has 16 for each",
        "30 seconds",
    )
    assert all(word in text("quota") for word in words)


def test_the_error_table_is_the_tree():
    """The page lists every error, in the tree's order, and whether a retry can help."""
    classes = [one for one in vars(exceptions).values() if isinstance(one, type) and issubclass(one, Exception)]
    shown = [(code_words(row[0])[0], row[1]) for row in rows("errors", "Error")]
    assert shown == [(one.__name__, "yes" if one.retryable else "no") for one in classes]


def connection_rows() -> dict[str, str]:
    """Give the fields on the page: name in JSON, label in the form."""
    lines = re.findall(r"^\| ([^|]+) \| `(?:extra\.)?(\w+)` \|", text("connection"), re.MULTILINE)
    return {name: label for label, name in lines}


def test_every_field_of_the_form_is_on_the_page_under_its_label():
    """The page has a row for each field of the connection form, with the label that the form shows."""
    (described,) = get_provider_info()["connection-types"]
    shown = connection_rows()
    for name, one in described["conn-fields"].items():
        assert shown[name] == one["label"]
    for name, label in described["ui-field-behaviour"]["relabeling"].items():
        assert shown[name] == label


def test_every_extra_that_is_accepted_is_on_the_page():
    """The page has a row for each key that a connection's extra may have, the ones that are in no form too."""
    assert set(EXTRA_FIELDS) <= set(connection_rows())


def test_every_option_of_the_section_redox_is_on_the_page():
    """The page on the connection lists the options of `[redox]`, and no other."""
    options = get_provider_info()["config"]["redox"]["options"]
    shown = {code_words(row[0])[0]: code_words(row[1])[0] for row in rows("connection", "Option")}
    assert shown == {name: f"AIRFLOW__REDOX__{name.upper()}" for name in options}


def test_the_sandbox_page_lists_what_there_is():
    """Options, paths of the control plane, kinds of faults and settings of the sandbox are all on its page."""
    options = {name for row in rows("sandbox", "Option") for name in code_words(row[0])}
    assert options == {name for action in cli._parser()._actions for name in action.option_strings} - {"-h", "--help"}
    assert {code_words(row[0])[0]: set(code_words(row[1])) for row in rows("sandbox", "Path")} == {
        path: set(verbs) for path, verbs in HANDLERS.items()
    }
    assert {kind for row in rows("sandbox", "Kind") for kind in code_words(row[0])} == set(KINDS)
    assert {name for row in rows("sandbox", "Setting") for name in code_words(row[0])} == set(CHECKS)


def test_every_command_on_the_page_is_in_the_makefile():
    """The page on development names targets that exist."""
    makefile = (ROOT / "Makefile").read_text()
    for (command,) in [code_words(row[0]) for row in rows("development", "Command")]:
        assert re.search(rf"^{command.removeprefix('make ')}:.*##", makefile, re.MULTILINE), command


def test_parameters_on_the_page_are_those_of_the_search():
    """The page on searching describes each argument of the operator, and no other."""
    import inspect

    from airflow_provider_redox.operators.base import RedoxOperator
    from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator

    section = text("searching").partition("## Parameters")[2].partition("\n## ")[0]
    shown = {name for line in re.findall(r"^(`.*`)\n:", section, re.MULTILINE) for name in code_words(line)}
    known = {*inspect.signature(RedoxFhirSearchOperator).parameters, *inspect.signature(RedoxOperator).parameters}
    assert shown == {name for name in inspect.signature(RedoxOperator.__init__).parameters if name in known} - {"kwargs"} | {
        *inspect.signature(RedoxFhirSearchOperator.__init__).parameters
    } - {"self", "kwargs"}


def test_the_inbox_page_lists_what_there_is():
    """Every variable of the receiver and every argument of the trigger is on the page, and no other."""
    import inspect

    from airflow_provider_redox.receiver.settings import PREFIX, VARIABLES
    from airflow_provider_redox.triggers.inbox import RedoxInboxTrigger

    assert [code_words(row[0])[0] for row in rows("inbox", "Variable")] == [PREFIX + name for name in VARIABLES]
    shown = {name for row in rows("inbox", "Argument") for name in code_words(row[0])}
    assert shown == set(inspect.signature(RedoxInboxTrigger).parameters)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path):
    """A link to another page names a file and a heading that exist; the README's links too, which Sphinx does not read."""
    for target in re.findall(r"\]\(([^)#\s]*\.md)?(#[\w-]+)?\)", page.read_text()):
        name, anchor = target
        other = (page.parent / name) if name else page
        assert other.is_file(), f"{page.name}: {name}"
        if anchor:
            assert anchor[1:] in anchors(other), f"{page.name}: {name}{anchor}"


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#{1,3} (.+)$", page.read_text(), re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r"^\(([\w-]+)\)=$", page.read_text(), re.MULTILINE))


def test_every_page_is_in_the_table_of_contents():
    """No page is an orphan."""
    listed = re.findall(r"^([a-z-]+)$", text("index"), re.MULTILINE)
    assert {page.stem for page in DOCS.glob("*.md")} == {*listed, "index"}


def test_the_table_of_metrics_names_each():
    """The page on metrics names every metric, and no other."""
    assert {code_words(row[0])[0] for row in rows("metrics", "Metric")} == {metric.value for metric in Metric}


def test_the_known_holes_on_the_page_are_those_of_the_audit() -> None:
    """The page on dependencies has a row for each hole of the table that `make audit` reads, and no other."""
    from audit import read_table

    _, holes = read_table(ROOT / "requirements" / "advisories.toml")
    said = [(hole.package, str(hole.fixed), ", ".join(hole.ids), hole.what, hole.here) for hole in holes]
    shown = [
        (row[0].strip("`"), *row[1:3], row[3][0].lower() + row[3][1:], row[4]) for row in rows("dependencies", "Package")
    ]
    assert shown == said


def test_the_page_on_remote_signers_lists_them() -> None:
    """The page for who keeps the keys has each signer and its extra, the seal's text and the patience."""
    import tomllib

    from airflow_provider_redox.signers import VENDORS, base
    from airflow_provider_redox.signers.key import SEALED_BY

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    shown = {code_words(row[0])[0]: code_words(row[-1])[:1] for row in rows("key-custodian", "`extra.signer`")}
    assert shown == {**{name: [f"[{name.replace('_', '-')}]"] for name in VENDORS}, "package.module.Class": []}
    assert {name.replace("_", "-") for name in VENDORS} <= set(extras)
    assert SEALED_BY.decode() in text("key-custodian")
    assert (base.CONNECT_TIMEOUT, base.READ_TIMEOUT, base.TRIES) == (10, 10, 3)
    assert "10 seconds to connect, 10 to answer\nand three tries" in text("key-custodian")
