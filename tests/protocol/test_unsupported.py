"""What a server says beside the results that it did not do: believed, whatever severity it gives to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol.effects import RedoxResponse, Tell
from airflow_provider_redox.protocol.fhir import Endpoint
from airflow_provider_redox.protocol.paging import start_walk
from airflow_provider_redox.protocol.terms import Terms

from .flows import World, answer, said_by

BASE = Endpoint("https://api.redoxengine.com", "hospital", "Production")
FORM = b"family=Green&birthdate=1980-01-01&_sort=-_id&_include=Patient:organization&organization.name=Acme"


def page(*issues: dict[str, Any], where: str = "entry", mode: str | None = "outcome", following: str = "") -> RedoxResponse:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "warning", **issue} for issue in issues]}
    entry: dict[str, Any] = {"resource": outcome, **({"search": {"mode": mode}} if mode else {})}
    place = {"entry": {"entry": [entry]}, "beside": {"issues": outcome}}[where]
    links = [{"relation": "next", "url": following}] if following else []
    return answer(200, json.dumps({"resourceType": "Bundle", "type": "searchset", "link": links, **place}))


def walk(*pages: RedoxResponse, form: bytes = FORM, **terms: Any) -> list[str]:
    """Walk a search; return what the log was told."""
    world = World(*pages)
    search = start_walk(BASE, "Patient", form, headers={}, env=world.env(), terms=Terms(**terms))
    while world.run(search.next_page()) is not None:
        pass
    return [effect.words for effect in world.asked if isinstance(effect, Tell)]


SAYS_SO = {
    "diagnostics": {"code": "not-supported", "diagnostics": "The parameter 'family' is not supported: Green"},
    "information": {"severity": "information", "code": "not-supported", "diagnostics": "family"},
    "details": {"code": "not-supported", "details": {"text": "Unsupported search parameter: family"}},
    "a display": {"code": "not-supported", "details": {"coding": [{"display": "family is unknown"}]}},
    "a place": {"code": "not-supported", "expression": ["http.family"]},
    "an older place": {"code": "not-supported", "location": ["f:family"]},
    "another code": {"code": "processing", "diagnostics": "Invalid parameter family was ignored. Known are name, _id"},
    "Medplum": {"code": "invalid", "details": {"text": "Unknown search parameter: family"}},
    "HAPI": {"code": "informational", "diagnostics": "The search parameter(s) [family] are not known and were ignored"},
    "an include": {"code": "not-supported", "diagnostics": "_include is not supported: family"},
}


@pytest.mark.parametrize("where", ["entry", "beside"])
@pytest.mark.parametrize("mode", ["outcome", "match", None])
@pytest.mark.parametrize("what", SAYS_SO)
def test_what_a_server_says_that_it_did_not_use_is_an_error(what: str, mode: str | None, where: str) -> None:
    """It names the search's own parameter, and no word of the server's."""
    with pytest.raises(RedoxProtocolError, match=r"does not support the parameter .*family") as raised:
        walk(page(SAYS_SO[what], where=where, mode=mode))
    said = said_by(raised.value)
    assert not [word for word in ("Green", "Acme", "1980", "Known are", "Invalid") if word in said]


def test_a_chained_parameter_is_named_as_it_was_written() -> None:
    """The name of the author's is told, with its chain."""
    issue = {"code": "not-supported", "diagnostics": "organization: chains are not supported"}
    with pytest.raises(RedoxProtocolError, match=r"the parameter organization\.name:"):
        walk(page(issue))


def test_a_later_page_may_say_so() -> None:
    """Every page is listened to."""
    with pytest.raises(RedoxProtocolError) as raised:
        walk(page(following="Patient?_page=p2"), page(SAYS_SO["diagnostics"]))
    assert raised.value.__notes__ == ["The search for Patient stopped at page 2."]


def test_something_that_has_no_name_is_an_error_too() -> None:
    """A server that does not support something, and not what, may have left out a filter."""
    with pytest.raises(RedoxProtocolError, match=r"\(which it does not name\)"):
        walk(page({"code": "not-supported"}))


HARMLESS = {
    "an order": {"code": "not-supported", "diagnostics": "_sort is not supported"},
    "an order in words": {"code": "not-supported", "diagnostics": "Sorting is not supported by sort order"},
    "a preference": {"code": "not-supported", "diagnostics": "Prefer: handling is not supported"},
    "a mention": {"code": "informational", "diagnostics": "3 patients with family Green were found"},
    "an unknown person": {"code": "processing", "diagnostics": "Unknown birthdate of one patient"},
    "suppressed": {"code": "suppressed", "diagnostics": "Some results were not returned"},
    "Epic's notice": {"code": "processing", "details": {"text": "This response includes information available at the time"}},
    "nothing": {},
    "other shapes": {"code": ["not-supported"], "diagnostics": {"family": 1}, "details": 5, "location": [None, 1]},
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_changes_no_result_is_no_error(what: str) -> None:
    """An order that is not kept, a preference, or a mention of a parameter leaves the resources as they are."""
    assert walk(page(HARMLESS[what])) == []


def test_a_search_for_everything_has_no_filter_to_lose() -> None:
    """Without a filter, what is not supported selects nothing."""
    assert walk(page({"code": "not-supported"}), form=b"_count=5") == []


@pytest.mark.parametrize(
    "issue",
    [
        {"code": "incomplete", "diagnostics": "Canary"},
        {"code": "timeout"},
        {"code": "throttled", "severity": "information"},
        {"code": "conflict", "details": {"text": "Pages have shifted; check pages for changed results."}},
    ],
)
def test_a_page_that_is_not_whole_is_an_error(issue: dict[str, Any]) -> None:
    """A server that says so of its own page is believed; a retry may heal it, and on_total_mismatch makes it a warning."""
    with pytest.raises(RedoxProtocolError, match="page 1 is not whole") as raised:
        walk(page(issue))
    assert raised.value.retryable
    assert "Canary" not in said_by(raised.value)
    assert "resources may be missing" in walk(page(issue), on_total_mismatch="warn")[0]


def test_includes_that_never_come_are_told() -> None:
    """A server that ignores `_include` gives matches alone; that is a warning, as nothing may have been referred to."""
    match = {"resource": {"resourceType": "Patient", "id": "1"}, "search": {"mode": "match"}}
    included = {"resource": {"resourceType": "Organization", "id": "2"}, "search": {"mode": "include"}}

    def told(*entries: dict[str, Any]) -> list[str]:
        return walk(answer(200, json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": entries})))

    assert ["_include was asked for" in words for words in told(match)] == [True]
    assert told(match, included) == []
    assert told() == []


def test_lenient_is_warned_once() -> None:
    """With handling lenient the search goes on; the log is told the name, once."""
    pages = page(SAYS_SO["diagnostics"], following="Patient?_page=p2"), page(SAYS_SO["diagnostics"])
    (words,) = walk(*pages, handling="lenient")
    assert "does not support the parameter family" in words
    assert "Green" not in words
