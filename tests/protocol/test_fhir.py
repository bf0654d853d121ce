"""FHIR requests: what goes into a URL is checked, and what an author searches for goes into the body."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.fhir import Endpoint, climbs, endpoint, search_form
from airflow_provider_redox.protocol.filters import form_of_link

from .flows import said_by
from .material import settings

BASE = Endpoint("https://api.redoxengine.com", "redox-fhir-sandbox", "Development")
TRAVERSALS = ["../Patient", "..", ".", "a/b", "a?b", "a#b", "%2e%2e", "a%2fb", "a\r\nb", "a b", " a", "a\n", "", "ä", "a\\b"]

# ── where a request goes ──


def test_a_search_is_a_form_post() -> None:
    """A search is a POST to `_search` below the destination's base, its parameters in the body."""
    request = BASE.search("Patient", b"family=Green", {"redox-source-id": "s"})
    assert request.method == "POST"
    assert request.url == "https://api.redoxengine.com/fhir/R4/redox-fhir-sandbox/Development/Patient/_search"
    assert request.body == b"family=Green"
    assert request.headers == {
        "redox-source-id": "s",
        "content-type": "application/x-www-form-urlencoded",
        "accept": "application/fhir+json",
    }


def test_what_is_searched_for_is_in_no_url_label_or_repr() -> None:
    """The patient who is searched for stands in the body alone."""
    request = BASE.search("Patient", search_form({"family": "Green", "identifier": "MR|0000000001"}), {})
    assert b"Green" in (request.body or b"")
    for shown in (request.url, request.label, repr(request)):
        assert "Green" not in shown
        assert "0000000001" not in shown


def test_a_read_is_a_get_whose_label_hides_the_id() -> None:
    """A read names the resource in its URL, and a log line shows `{id}` instead."""
    request = BASE.read("Patient", "81c2f5eb-f99f-40c4-b504-59483e6148d7", {})
    assert (request.method, request.body) == ("GET", None)
    assert request.url.endswith("/Development/Patient/81c2f5eb-f99f-40c4-b504-59483e6148d7")
    assert request.label == "GET /fhir/R4/redox-fhir-sandbox/Development/Patient/{id}"


@pytest.mark.parametrize("name", ["$observation-create", "observation-create"])
def test_a_writeback_is_a_post_of_an_operation(name: str) -> None:
    """An operation is written with or without its dollar sign, and sent with it."""
    request = BASE.writeback("Observation", name, b"{}", {})
    assert (request.method, request.body) == ("POST", b"{}")
    assert request.url.endswith("/Development/Observation/$observation-create")
    assert request.headers["content-type"] == "application/fhir+json"


def test_a_header_of_the_author_does_not_change_what_the_body_is() -> None:
    """The content type of a search is the form's, whatever the connection's headers say."""
    assert BASE.search("Patient", b"", {"content-type": "text/plain"}).headers["content-type"].endswith("urlencoded")


@pytest.mark.parametrize("kind", [*TRAVERSALS, "patient", "Patient1", "P", "A" * 65, "$everything", None, 7, ["Patient"]])
def test_a_name_that_is_no_resource_type_is_refused(kind: Any) -> None:
    """A resource type is a capital and letters; nothing else gets into a URL."""
    for make in (
        lambda: BASE.search(kind, b"", {}),
        lambda: BASE.read(kind, "1", {}),
        lambda: BASE.writeback(kind, "a", b"", {}),
    ):
        with pytest.raises(RedoxConfigError, match=r"^resource_type: must be the name of a FHIR resource type"):
            make()


NO_IDS = [*TRAVERSALS, "a" * 513, "...", "$x", "_history", "_search", "a;b", "a b", "a\u00a0b", "a%41", "a\ud800", None, 7]


@pytest.mark.parametrize("resource_id", NO_IDS)
def test_a_text_that_is_no_resource_id_is_refused(resource_id: Any) -> None:
    """What could make the URL another one is no logical ID."""
    with pytest.raises(RedoxConfigError, match=r"^resource_id: must be the ID alone") as raised:
        BASE.read("Patient", resource_id, {})
    assert not isinstance(resource_id, str) or len(resource_id) < 4 or resource_id not in said_by(raised.value)


IDS = {
    "Tbt3KuCY0B5PSrJvCu2j-PlK.aiHsu2xUjUM8bWpetXoB": "Tbt3KuCY0B5PSrJvCu2j-PlK.aiHsu2xUjUM8bWpetXoB",
    "e" * 88: "e" * 88,
    "a_b:c": "a_b:c",
    "a|b": "a%7Cb",
    "a+1": "a%2B1",
}


@pytest.mark.parametrize("resource_id", IDS)
def test_an_id_of_another_server_is_read(resource_id: str) -> None:
    """An ID that a server gave is asked for, however long, percent-encoded where it has to be."""
    assert BASE.read("Patient", resource_id, {}).url == f"{BASE.url}/Patient/{IDS[resource_id]}"


@given(st.text(max_size=30) | st.text("._-:%/\\?#;$ ab\u0131", max_size=8))
def test_whatever_the_id_the_url_is_that_of_one_resource(resource_id: str) -> None:
    """The URL of a read has the base, the type and one segment that decodes to the ID; what has not is refused."""
    try:
        url = urlsplit(BASE.read("Patient", resource_id, {}).url)
    except RedoxConfigError:
        return
    assert url.path.startswith(f"{urlsplit(BASE.url).path}/Patient/")
    segment = url.path.removeprefix(f"{urlsplit(BASE.url).path}/Patient/")
    assert (unquote(segment), "/" in segment, url.query, url.fragment) == (resource_id, False, "", "")
    assert not climbs(url.path)


@pytest.mark.parametrize("name", [*TRAVERSALS, "$", "$$x", "Observation-create", "-x", "a" * 65, "x/$y"])
def test_a_name_that_is_no_operation_is_refused(name: str) -> None:
    """An operation is small letters, digits and hyphens."""
    with pytest.raises(RedoxConfigError, match=r"^operation: must be a name such as"):
        BASE.writeback("Observation", name, b"{}", {})


@pytest.mark.parametrize("environment", ["Development", "Staging", "Production"])
def test_the_environment_is_part_of_the_base(environment: str) -> None:
    """The three environments of Redox are three bases."""
    made = endpoint(settings(environment="Staging"), "slug", environment)
    assert made.url == f"https://api.redoxengine.com/fhir/R4/slug/{environment}"


def test_the_connection_has_a_default_environment() -> None:
    """Without an environment of its own a search goes to the connection's."""
    assert endpoint(settings(environment="Staging"), "slug", None).environment == "Staging"


@pytest.mark.parametrize("environment", ["production", "PRODUCTION", "Prod", "../Production"])
def test_an_environment_that_redox_does_not_know_is_refused(environment: str | None) -> None:
    """Upper and lower case matter to Redox."""
    with pytest.raises(RedoxConfigError, match=r"^environment: must be one of Development, Staging, Production"):
        endpoint(settings(), "slug", environment)


def test_a_search_needs_an_environment() -> None:
    """No environment, in the operator or in the connection, is an error that says where to set it."""
    with pytest.raises(RedoxConfigError, match=r"^environment: set it in the operator"):
        endpoint(settings(), "slug", None)


@pytest.mark.parametrize("environment", ["", "  ", "None"])
def test_an_empty_environment_is_not_the_connections(environment: str) -> None:
    """Only None means the connection's own."""
    with pytest.raises(RedoxConfigError, match=r"^environment: is empty"):
        endpoint(settings(environment="Production"), "slug", environment)


def test_the_hosts_that_links_may_name_come_from_the_connection() -> None:
    """An endpoint knows the connection's aliases."""
    made = settings(environment="Staging", link_host_aliases="EHR.example, other.example")
    assert endpoint(made, "slug", None).aliases == ("ehr.example", "other.example")


# ── what is searched for ──


def test_a_list_is_a_repeated_key() -> None:
    """Several values of one parameter are sent under one name each, in order; an `and` in FHIR."""
    form = search_form({"date": ["ge2026-01-01", "lt2026-02-01"], "status": ("final",)})
    assert form == b"date=ge2026-01-01&date=lt2026-02-01&status=final"


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (7, "7"),
        (1.5, "1.5"),
        ("true", "true"),
        ("a b&c=d", "a b&c=d"),
        ("Grün", "Grün"),
        (" x ", " x "),
    ],
)
def test_a_value_is_sent_as_fhir_writes_it(value: Any, sent: str) -> None:
    """Truth is written small, numbers are written out, and text is sent as it is."""
    assert parse_qsl(search_form({"name": value}).decode("ascii"), keep_blank_values=True) == [("name", sent)]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "\t\n",
        [],
        (),
        [""],
        ["x", None],
        ["x", []],
        {},
        {"a": 1},
        b"x",
        object(),
        math.nan,
        math.inf,
        Decimal("NaN"),
        {1},
        datetime(2026, 1, 1),  # noqa: DTZ001
    ],
)
def test_an_empty_or_unusable_value_is_refused(value: Any) -> None:
    """A filter that is empty, or a data frame's NaN, would ask for everybody or for nobody: it is refused."""
    with pytest.raises(RedoxConfigError, match=r"^search_params: birthdate:? "):
        search_form({"birthdate": value})


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a&b", "ä", "1a", "a\n", "-a", 7, None, "a" * 101])
def test_a_name_that_is_no_parameter_is_refused(name: Any) -> None:
    """A parameter's name is letters, digits and a few signs, so that no second parameter hides in it."""
    with pytest.raises(RedoxConfigError, match=r"^search_params: a parameter's name"):
        search_form({name: "x"})


@pytest.mark.parametrize(
    "name", ["_id", "_lastUpdated", "name:exact", "_has:Observation:patient:code", "subject.name", "a-b"]
)
def test_fhirs_own_names_are_taken(name: str) -> None:
    """Modifiers, chains, reverse chains and names with an underscore are parameters."""
    assert parse_qsl(search_form({name: "x"}).decode()) == [(name, "x")]


@pytest.mark.parametrize("params", [None, "family=Green", [("family", "Green")], 7])
def test_parameters_are_a_mapping(params: Any) -> None:
    """Anything but a mapping is refused."""
    with pytest.raises(RedoxConfigError, match=r"^search_params: must be a mapping"):
        search_form(params)


def test_a_text_that_cannot_be_sent_is_refused_without_being_quoted() -> None:
    """Half a surrogate pair is no text; the error and its chain hold none of the value."""
    with pytest.raises(RedoxConfigError) as raised:
        search_form({"family": "Canary\ud800"})
    assert "Canary" not in said_by(raised.value)


@given(st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.:\-]{0,20}", fullmatch=True), st.lists(st.text(), min_size=1)))
def test_every_usable_text_arrives_as_it_was(params: dict[str, list[str]]) -> None:
    """Whatever the author searches for, the server reads the same pairs in the same order; or it is refused."""
    pairs = [(name, value) for name, values in params.items() for value in values]
    try:
        form = search_form(params)
    except RedoxConfigError:
        assert any(not value.strip() for _, value in pairs)
        return
    assert parse_qsl(form.decode("ascii"), keep_blank_values=True, strict_parsing=bool(pairs)) == pairs


def test_a_links_query_becomes_a_form() -> None:
    """What a next link holds is sent as a form unchanged: repeats, blanks, plus signs and escapes."""
    form = form_of_link("https://h/Patient?_page=a%2Bb%2Fc%3D&x=1&x=2&blank=&name=Gr%C3%BCn+Keva")
    assert parse_qsl(form.decode(), keep_blank_values=True) == [
        ("_page", "a+b/c="),
        ("x", "1"),
        ("x", "2"),
        ("blank", ""),
        ("name", "Grün Keva"),
    ]
