"""Data Model messages: what the author wrote is sent, what Meta lacks is filled in, what Redox says is read."""

from __future__ import annotations

import copy
import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxDestinationError, RedoxError, RedoxProtocolError
from airflow_provider_redox.protocol import data_model
from airflow_provider_redox.protocol.data_model import complete, encode, is_query, read_answer

from .flows import NOW, answer, said_by
from .material import settings

ONE, TWO, THREE = (f"{digit * 8}-1111-4111-8111-111111111111" for digit in "123")
DESTINATIONS = {
    "general": {"slug": "hospital", "id": ONE, "ids": {"Scheduling": TWO, "Clinical Summary": THREE}},
    "fhir-only": {"slug": "clinic"},
    "coded": {"id": ONE, "facility_code": "FAC-7"},
}


def message(model: str = "PatientAdmin", event: str = "NewPatient", **meta: Any) -> dict[str, Any]:
    return {"Meta": {"DataModel": model, "EventType": event, **meta}, "Patient": {"Identifiers": [{"ID": "1"}]}}


def completed(
    given_message: Any, *, destination: str | None = "general", environment: str | None = None, **extra: Any
) -> Any:
    made = settings(**{"destinations": DESTINATIONS, **extra})
    return complete(given_message, made, destinations=destination and (destination,), environment=environment, now=NOW)


def refusal(given_message: Any, **options: Any) -> RedoxConfigError:
    with pytest.raises(RedoxConfigError) as raised:
        completed(given_message, **options)
    return raised.value


# ── completing ──


def test_a_message_gets_a_time_and_a_destination() -> None:
    """Meta gets the time in UTC to the millisecond and the destination's ID and name; nothing else is added."""
    assert completed(message())["Meta"] == {
        "DataModel": "PatientAdmin",
        "EventType": "NewPatient",
        "EventDateTime": "2026-01-01T00:00:00.000Z",
        "Destinations": [{"ID": ONE, "Name": "general"}],
    }


meta_values = st.dictionaries(st.sampled_from(["Extra", "Message", "Logs"]), st.integers() | st.text() | st.none())


@given(meta_values, st.dictionaries(st.text(max_size=4), st.lists(st.integers(), max_size=2), max_size=4))
def test_nothing_that_the_author_wrote_is_changed(meta: dict[str, Any], body: dict[str, Any]) -> None:
    """Everything of the author's is in the completed message, and the author's own object is as it was."""
    author = {**body, "Meta": {"DataModel": "Results", "EventType": "New", "EventDateTime": "then", **meta}}
    before = copy.deepcopy(author)
    whole = completed(author)
    assert author == before
    assert {name: value for name, value in whole.items() if name != "Meta"} == body
    assert {name: whole["Meta"][name] for name in before["Meta"]} == before["Meta"]


def test_the_completed_message_is_a_copy_to_the_depth() -> None:
    """To change the completed message does not change the author's, nor the connection's defaults."""
    made = settings(destinations=DESTINATIONS, meta={"Extensions": {"a": {"b": 1}}})
    author = message()
    whole = complete(author, made, destinations=("general",), environment=None, now=NOW)
    whole["Patient"]["Identifiers"].append("x")
    whole["Meta"]["Extensions"]["a"]["b"] = 2
    assert author == message()
    assert made.meta == {"Extensions": {"a": {"b": 1}}}


def test_a_time_of_the_author_stays() -> None:
    """EventDateTime is when the event happened, if the author says so."""
    assert completed(message(EventDateTime="2020-01-01"))["Meta"]["EventDateTime"] == "2020-01-01"


@pytest.mark.parametrize(
    ("model", "uuid"),
    [
        ("PatientAdmin", ONE),
        ("Scheduling", TWO),
        ("scheduling", TWO),
        ("ClinicalSummary", THREE),
        ("Clinical Summary", THREE),
    ],
)
def test_a_destination_has_an_id_for_each_data_model(model: str, uuid: str) -> None:
    """The data model's own ID is taken before the general one, however the model's name is spaced."""
    assert completed(message(model))["Meta"]["Destinations"] == [{"ID": uuid, "Name": "general"}]


def test_a_uuid_is_a_destination() -> None:
    """An author may write the UUID instead of a name."""
    assert completed(message(), destination=THREE)["Meta"]["Destinations"] == [{"ID": THREE, "Name": THREE}]


def test_the_connection_has_a_default_destination() -> None:
    """Without one of its own a message goes to the connection's destination."""
    made = settings(destinations=DESTINATIONS, destination="general")
    whole = complete(message(), made, destinations=None, environment=None, now=NOW)
    assert whole["Meta"]["Destinations"] == [{"ID": ONE, "Name": "general"}]


def test_destinations_of_the_author_stay() -> None:
    """A message that names its destinations goes to them, though the connection has a default."""
    stated = [{"ID": TWO}, {"ID": THREE}]
    made = settings(destinations=DESTINATIONS, destination="general")
    whole = complete(message(Destinations=stated), made, destinations=None, environment=None, now=NOW)
    assert whole["Meta"]["Destinations"] == stated


def test_a_facility_code_comes_with_its_destination() -> None:
    """A destination that is reached by a facility code brings it, unless the author wrote another."""
    assert completed(message(), destination="coded")["Meta"]["FacilityCode"] == "FAC-7"
    assert completed(message(FacilityCode="own"), destination="coded")["Meta"]["FacilityCode"] == "own"


def test_the_source_comes_from_the_connection() -> None:
    """The connection's source ID becomes Meta.Source, unless the author wrote another."""
    assert completed(message(), source_id="source-1")["Meta"]["Source"] == {"ID": "source-1"}
    assert completed(message(Source={"ID": "own"}), source_id="source-1")["Meta"]["Source"] == {"ID": "own"}


def test_the_connections_meta_is_a_default() -> None:
    """What extra.meta says is added, and what the author says wins."""
    whole = completed(message(Purpose="author"), meta={"Purpose": "connection", "Network": "Carequality"})
    assert (whole["Meta"]["Purpose"], whole["Meta"]["Network"]) == ("author", "Carequality")


@pytest.mark.parametrize(("environment", "test"), [("Development", True), ("Staging", True), ("Production", False)])
def test_everything_but_production_is_a_test(environment: str, test: bool) -> None:  # noqa: FBT001
    """Meta.Test follows from the environment of the operator or of the connection."""
    assert completed(message(), environment=environment)["Meta"]["Test"] is test
    made = settings(destinations=DESTINATIONS, environment=environment)
    assert complete(message(), made, destinations=("general",), environment=None, now=NOW)["Meta"]["Test"] is test


def test_the_operators_environment_comes_before_the_connections() -> None:
    """A DAG that says Production means it, whatever the connection's default is."""
    made = settings(destinations=DESTINATIONS, environment="Development")
    assert complete(message(), made, destinations=("general",), environment="Production", now=NOW)["Meta"]["Test"] is False


def test_without_an_environment_test_is_left_alone() -> None:
    """Where nobody names an environment, Meta.Test is the author's affair."""
    assert "Test" not in completed(message())["Meta"]
    assert completed(message(Test=True))["Meta"]["Test"] is True


@pytest.mark.parametrize(
    ("environment", "stated"),
    [
        ("Production", True),
        ("Development", False),
        ("Staging", False),
        ("Production", "false"),
        ("Production", 0),
        ("Staging", 1),
    ],
)
def test_a_test_flag_that_contradicts_the_environment_is_refused(environment: str, stated: Any) -> None:
    """Test data does not go to production as real, nor a real patient to a test system as a test."""
    error = refusal(message(Test=stated), environment=environment)
    assert str(error).startswith("payload: Meta.Test must be ")
    assert environment in str(error)


@pytest.mark.parametrize("given_message", [None, "Canary", [], {}, {"Meta": None}, {"Meta": []}, {"Meta": "Canary"}, 7])
def test_a_message_without_meta_is_refused(given_message: Any) -> None:
    """Redox routes by Meta, so a message has one."""
    error = refusal(given_message)
    assert str(error) == "payload: must be an object with a Meta object; Redox routes by Meta"
    assert "Canary" not in said_by(error)


@pytest.mark.parametrize("name", ["DataModel", "EventType"])
@pytest.mark.parametrize("value", [None, "", 7, []])
def test_a_message_says_what_it_is(name: str, value: Any) -> None:
    """DataModel and EventType are texts that are there."""
    assert (
        str(refusal({"Meta": {**message()["Meta"], name: value}}))
        == f"payload: Meta.{name} is missing; Redox tells messages apart by it, so put it in"
    )


def test_a_message_without_a_destination_is_refused() -> None:
    """Where neither message, operator nor connection names a destination, nothing is sent."""
    assert str(refusal(message(), destination=None)).startswith("destination: name one")


def test_a_destination_that_is_named_twice_is_refused() -> None:
    """Operator and message may not both name where it goes."""
    assert str(refusal(message(Destinations=[{"ID": TWO}]))).startswith("destination: given in the operator and in Meta")


@pytest.mark.parametrize("stated", ["general", {"ID": TWO}, 7])
def test_destinations_that_are_no_list_are_refused(stated: Any) -> None:
    """Meta.Destinations is a list."""
    assert str(refusal(message(Destinations=stated), destination=None)).startswith(
        "payload: Meta.Destinations must be a list such as "
    )


@pytest.mark.parametrize(
    "place", [None, "general", {}, {"Name": "Canary"}, {"ID": None}, {"ID": ""}, {"ID": " "}, {"ID": 7}]
)
def test_a_destination_of_the_author_has_an_id(place: Any) -> None:
    """Redox routes by the ID; an entry without one would reach nobody."""
    error = refusal(message(Destinations=[{"ID": TWO}, place]), destination=None)
    assert str(error) == "payload: Meta.Destinations[1] has no ID; put the destination's UUID there"
    assert "Canary" not in said_by(error)


def test_a_destination_of_the_author_is_named_once() -> None:
    """Named twice, it would get the message twice."""
    uuid = "af394f14-b34a-464f-8d24-895f370af4c9"
    error = refusal(message(Destinations=[{"ID": uuid}, {"ID": TWO}, {"ID": uuid.upper(), "Name": "x"}]), destination=None)
    assert str(error) == "payload: Meta.Destinations[2] names a destination a second time; remove it"


@pytest.mark.parametrize("stated", ["true", 1, 0, "Canary"])
def test_a_test_flag_is_true_or_false(stated: Any) -> None:
    """Without an environment too: Redox would read anything else as it likes."""
    error = refusal(message(Test=stated))
    assert str(error) == "payload: Meta.Test must be true or false"
    assert "Canary" not in said_by(error)


def test_a_destination_without_an_id_is_refused() -> None:
    """The Data Model API wants a UUID, and a slug alone is none."""
    assert "has no id for PatientAdmin" in str(refusal(message(), destination="fhir-only"))


def test_a_destination_that_is_not_described_is_refused_with_the_names_that_are() -> None:
    """A name that nobody described has no UUID either, and the error says which names there are."""
    assert str(refusal(message(), destination="unknown-slug")) == (
        "destination: no such name in extra.destinations, and Data Models need a UUID; known are coded, fhir-only, general"
    )


def test_a_query_goes_to_exactly_one_destination() -> None:
    """Redox answers a query from one place, so two are refused, and a notification may have two."""
    two = [{"ID": TWO}, {"ID": THREE}]
    assert "exactly one destination" in str(refusal(message("PatientSearch", "Query", Destinations=two), destination=None))
    assert len(completed(message(Destinations=two), destination=None)["Meta"]["Destinations"]) == 2


# ── what only asks ──

QUERIES = [
    ("ClinicalSummary", ["DocumentGet", "DocumentQuery", "PatientQuery", "VisitQuery"]),
    ("Enrichment", ["NormalizationQuery"]),
    ("Media", ["Query"]),
    ("Notes", ["Query"]),
    ("Order", ["Query"]),
    ("Organization", ["Query"]),
    ("PatientAdmin", ["CensusQuery", "VisitQuery"]),
    ("PatientSearch", ["LocationQuery", "Query"]),
    ("Provider", ["ProviderQuery"]),
    ("Referral", ["Query"]),
    ("Results", ["Query"]),
    ("Scheduling", ["AvailableSlots", "Booked"]),
    ("Vaccination", ["PatientQuery"]),
]
"""Every event with a ...Response twin in the 24 models, but for ClinicalDecisions.Request."""


@pytest.mark.parametrize(("model", "event"), [(model, event) for model, events in QUERIES for event in events])
def test_every_known_query_is_a_query(model: str, event: str) -> None:
    """The nineteen events that only ask may be sent again."""
    assert is_query(message(model, event))


@pytest.mark.parametrize("model", ["Clinical Summary", "clinicalsummary", "CLINICAL SUMMARY", "ClinicalSummary"])
def test_a_models_name_is_read_without_spaces_and_case(model: str) -> None:
    """Redox's own samples write the model with and without a space."""
    assert is_query(message(model, "PatientQuery"))


@pytest.mark.parametrize(
    ("model", "event"),
    [
        ("ClinicalDecisions", "Request"),
        ("ClinicalDecisions", "Response"),
        ("PatientAdmin", "NewPatient"),
        ("PatientAdmin", "Query"),
        ("PatientAdmin", "CensusQueryResponse"),
        ("PatientSearch", "query"),
        ("PatientSearch", "Query "),
        ("PatientSearch", "QueryResponse"),
        ("Scheduling", "New"),
        ("Scheduling", "Reschedule"),
        ("Scheduling", "Query"),
        ("Order", "New"),
        ("Results", "New"),
        ("Media", "New"),
        ("SSO", "SignOn"),
        ("Unknown", "Query"),
        ("", "Query"),
    ],
)
def test_everything_else_is_unsafe(model: str, event: str) -> None:
    """A write, an answer, an unknown model or event, and a request for a decision are not sent again."""
    assert not is_query(message(model, event))


@pytest.mark.parametrize(
    "given_message",
    [
        None,
        [],
        "x",
        {},
        {"Meta": None},
        {"Meta": []},
        message(["Media"], "Query"),
        message("Media", ["Query"]),
        message("Media", None),
    ],  # type: ignore[arg-type]
)
def test_what_is_no_message_is_no_query(given_message: Any) -> None:
    """What cannot be read is not sent again."""
    assert is_query(given_message) is False


# ── encoding ──


@pytest.mark.parametrize("value", [None, True, 1, -1.5, 2**70, 'ü\n"', [], {}, [{"a": [1]}], 1e300, "NaN", "null"])
def test_a_message_is_sent_as_it_is(value: Any) -> None:
    """What JSON can carry is encoded to what parses to the same."""
    assert json.loads(encode({"Meta": {}, "value": value})) == {"Meta": {}, "value": value}


def test_a_decimal_is_sent_as_a_number_to_the_digit() -> None:
    """A dose of 1.10 is sent as 1.10, neither as 1.1 nor as a text."""
    assert encode({"Dose": Decimal("1.10")}) == b'{"Dose":1.10}'


UNSENDABLE = [
    object(),
    "Canary\ud800",
    {object(): 1},
    math.nan,
    math.inf,
    -math.inf,
    Decimal("NaN"),
    Decimal("Infinity"),
    1j,
    b"Canary",
    {"Canary"},
    frozenset(),
    {1: "a"},
    bytearray(b"Canary"),
]


@pytest.mark.parametrize("value", UNSENDABLE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "wrap", [lambda value: value, lambda value: [value], lambda value: {"a": ({"b": value},), "c": None}]
)
def test_what_json_cannot_carry_is_refused(value: Any, wrap: Any) -> None:
    """An object, half a character and a NaN are refused, at any depth, without being quoted; none becomes null."""
    with pytest.raises(RedoxConfigError, match=r"^payload: /value[a-z0-9/]*: .*(cannot be sent|must be text)") as raised:
        encode({"Meta": {}, "value": wrap(value)})
    assert "Canary" not in said_by(raised.value)


def test_a_message_that_holds_itself_is_refused() -> None:
    """A circle has no end in JSON."""
    circle: dict[str, Any] = {}
    circle["self"] = circle
    with pytest.raises(RedoxConfigError, match=r"^payload: is nested too deeply, or holds itself"):
        encode(circle)


def test_a_message_is_at_most_what_redox_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of exactly the limit is encoded, one byte more is refused with both figures."""
    monkeypatch.setattr(data_model, "MAX_BYTES", 20)
    assert len(encode({"a": "x" * 12})) == 20
    with pytest.raises(RedoxConfigError, match=r"^payload: 21 bytes, and Redox takes 20; send files by upload$"):
        encode({"a": "x" * 13})


def test_redox_takes_forty_megabytes() -> None:
    """The limit is the one of Redox's page on quotas."""
    assert data_model.MAX_BYTES == 40 * 1024 * 1024


def test_a_message_is_posted_to_the_endpoint() -> None:
    """A message goes to /endpoint as JSON, and its label names model and event only."""
    made = data_model.request(settings(), message("Clinical Summary", "PatientPush"), {"redox-source-id": "s"})
    assert (made.method, made.url) == ("POST", "https://api.redoxengine.com/endpoint")
    assert made.headers == {"redox-source-id": "s", "content-type": "application/json", "accept": "application/json"}
    assert json.loads(made.body or b"") == message("Clinical Summary", "PatientPush")
    assert made.label == "POST /endpoint (Clinical Summary PatientPush)"


@pytest.mark.parametrize("name", ["Patient\r\nINFO", "x" * 40, "Green;", "a/b"])
def test_a_label_shows_no_odd_name(name: str) -> None:
    """A model's name that is no plain word is left out of the log."""
    assert data_model.request(settings(), message(name, "New"), {}).label == "POST /endpoint (? New)"


# ── answers ──


@pytest.mark.parametrize("body", ["", "<html>Canary", "[]", "{}", '{"Meta": null}', '{"Meta": "Canary"}', '"Canary"'])
def test_an_answer_without_meta_is_a_protocol_error(body: str) -> None:
    """A 200 that is no Data Model answer is not taken for one."""
    with pytest.raises(RedoxProtocolError) as raised:
        read_answer(answer(200, body))
    assert "Canary" not in said_by(raised.value)


ERRORS = [{"ID": 531829, "Text": "Canary Green", "Type": "message", "Module": "Send", "DestinationStatusCode": 503}]


def test_errors_inside_a_200_are_an_error_of_the_destination() -> None:
    """A 200 with Meta.Errors has failed: the error tells codes, status and trace, and not the text."""
    body = json.dumps({"Meta": {"DataModel": "PatientSearch", "Errors": ERRORS}, "Patient": "Canary"})
    with pytest.raises(RedoxDestinationError) as raised:
        read_answer(answer(200, body, redox_trace_id="trace-1"))
    error = raised.value
    assert error.issues == ("id=531829 type=message module=Send destination_status=503",)
    assert (error.status, error.trace_id) == (200, "trace-1")
    assert "Canary" not in said_by(error)


def test_logs_beside_errors_are_told() -> None:
    """A message with errors and logs may be with one of its destinations: the error has the IDs of the logs."""
    body = json.dumps({"Meta": {"Errors": ERRORS, "Logs": [{"ID": "log-1"}, {"ID": "log-2"}]}})
    with pytest.raises(RedoxDestinationError, match="log-1, log-2") as raised:
        read_answer(answer(200, body))
    assert raised.value.log_ids == ("log-1", "log-2")


@pytest.mark.parametrize("errors", [["odd"], "odd", {"odd": 1}, [None], 7])
def test_errors_of_an_odd_shape_are_errors_all_the_same(errors: Any) -> None:
    """Whatever Meta.Errors holds, an answer that has it is no success."""
    with pytest.raises(RedoxDestinationError):
        read_answer(answer(200, json.dumps({"Meta": {"Errors": errors}})))


@pytest.mark.parametrize("errors", [None, [], ""])
def test_no_errors_are_a_success(errors: Any) -> None:
    """An empty list of errors is none."""
    assert read_answer(answer(200, json.dumps({"Meta": {"Errors": errors}}))) == {"Meta": {"Errors": errors}}


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_body_is_an_answer_or_an_error_of_ours(body: bytes) -> None:
    """Whatever comes, reading it ends in an answer with Meta or in an error of this package."""
    try:
        assert isinstance(read_answer(answer(200, body))["Meta"], dict)
    except RedoxError:
        return


def test_the_time_of_a_message_is_in_utc() -> None:
    """EventDateTime ends in Z and is the moment that was handed in."""
    stamp = completed(message())["Meta"]["EventDateTime"]
    assert datetime.fromisoformat(stamp.replace("Z", "+00:00")) == datetime.fromtimestamp(NOW, UTC)


# ── null and empty ──

FILLED_IN = ("EventDateTime", "Source", "FacilityCode", "Test", "Network", "Site")
"""What is filled in: by us, from `meta` (Network), and from `extra.meta` (Site)."""


@given(
    nulls=st.sets(st.sampled_from(FILLED_IN)), source=st.sampled_from([None, {}, {"ID": None}, {"ID": None, "Name": None}])
)
def test_null_is_as_good_as_absent(nulls: set[str], source: Any) -> None:
    """A field of Meta that we fill in is filled in where it is null, as in Redox's own samples."""
    made = settings(destinations=DESTINATIONS, source_id=TWO, meta={"Site": "A"}, environment="Staging")

    def whole(**meta: Any) -> dict[str, Any]:
        return complete(
            message(**meta),
            made,
            destinations=("coded",),
            environment=None,
            now=NOW,
            defaults={"Network": "N", "Site": None},
        )

    stated = {name: source if name == "Source" else None for name in nulls}
    assert whole(**stated) == whole()
    assert whole()["Meta"]["FacilityCode"] == "FAC-7"


def test_a_null_that_nothing_fills_in_stays() -> None:
    """`"FacilityCode": null` means every facility to the record locator, and is sent as it was written."""
    meta = completed(message(FacilityCode=None, Logs=None, Test=None))["Meta"]
    assert (meta["FacilityCode"], meta["Logs"], meta["Test"]) == (None, None, None)


@pytest.mark.parametrize("stated", [[], "", {}, "  "])
@pytest.mark.parametrize("destination", ["general", None])
def test_no_destination_in_a_message_is_not_the_default(stated: Any, destination: str | None) -> None:
    """A message that says it goes to nobody goes to nobody."""
    error = refusal(message(Destinations=stated), destination=destination)
    assert str(error) == "payload: Meta.Destinations is empty; give it a value, or leave it out"


def test_null_destinations_leave_the_choice_to_the_author_and_not_to_the_default() -> None:
    """Null comes from data; with an author's destination it chooses nothing."""
    assert completed(message(Destinations=None))["Meta"]["Destinations"] == [{"ID": ONE, "Name": "general"}]
    made = settings(destinations=DESTINATIONS, destination="general")
    with pytest.raises(RedoxConfigError, match=r"^payload: Meta\.Destinations is null, which does not mean the default"):
        complete(message(Destinations=None), made, destinations=None, environment=None, now=NOW)


@pytest.mark.parametrize("name", ["FacilityCode", "EventDateTime", "Source", "DataModel", "EventType"])
@pytest.mark.parametrize("empty", ["", "  ", "None"])
def test_an_empty_text_in_meta_is_refused(name: str, empty: str) -> None:
    """It would go out as a place, a time or a kind that there is not."""
    error = refusal({"Meta": {**message()["Meta"], name: empty}})
    assert str(error).startswith(f"payload: Meta.{name} is ")


def test_an_empty_source_id_is_refused() -> None:
    """The source of the connection is not put over it."""
    assert str(refusal(message(Source={"ID": ""}))).startswith("payload: Meta.Source.ID is empty")


@pytest.mark.parametrize("names", [[""], ["general", ""], ["general", None], ["general", "None"], [None]])
def test_none_of_several_destinations_is_the_default(names: Any) -> None:
    """One that came out as nothing would send the message to the default hospital."""
    made = settings(destinations=DESTINATIONS, destination="coded")
    with pytest.raises(RedoxConfigError, match=r"^destination(s\[1\])?: is empty"):
        complete(message(), made, destinations=names, environment=None, now=NOW)


@pytest.mark.parametrize("defaults", ["", [], "Carequality"])
def test_a_meta_of_the_operator_that_is_no_mapping_is_refused(defaults: Any) -> None:
    """An empty text is none either."""
    with pytest.raises(RedoxConfigError, match=r"^meta: must be a mapping"):
        complete(message(), settings(), destinations=(ONE,), environment=None, now=NOW, defaults=defaults)
