"""The connection form in the Airflow that is developed on: what a person does with it, by mouse, keys and clipboard.

Some tests hold what Airflow does, not what we would like. When one of those fails with a new Airflow, mend the page on
the connection in the documentation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_airflow import LocalAirflow

from airflow_provider_redox.get_provider_info import get_provider_info
from tests.protocol.material import pkcs8
from tests.support.sandbox import Sandbox
from tests.ui.conftest import Picture, Visit, free_port
from tests.ui.forms import Connections, Form

pytestmark = pytest.mark.slow

DAGS = Path(__file__).parents[2] / "dags"
GREEN, RED = "rgb(0, 128, 0)", "rgb(255, 0, 0)"


@pytest.fixture(scope="module")
def airflow(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """One Airflow for this module; the browser comes first, because without it there is nothing to start for."""
    with LocalAirflow(tmp_path_factory.mktemp("airflow"), DAGS, free_port()) as running:
        yield running


@pytest.fixture
def connections(airflow: LocalAirflow, visit: Visit) -> Iterator[Connections]:
    """The list of connections, which is empty at first."""
    yield Connections(visit.page, airflow.url)
    for connection in airflow.request("GET", "/connections")["connections"]:
        airflow.request("DELETE", f"/connections/{connection['connection_id']}")


def stored(airflow: LocalAirflow, connection_id: str) -> dict[str, Any]:
    """Give what Airflow has stored, the extra as a dict."""
    connection = airflow.request("GET", f"/connections/{connection_id}")
    return {**connection, "extra": json.loads(connection["extra"])}


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is empty: Airflow stores null for every field of the form that was left alone."""
    return {name: value for name, value in values.items() if value is not None}


def fill_in(form: Form, sandbox: Sandbox, *, key: str | None = None, port: bool = True, kid: bool = True) -> None:
    """Fill in what connects to the sandbox; the extra fields stay open."""
    extra = sandbox.connection["extra"]
    form.standard("API base URL").fill(sandbox.connection["host"] if port else sandbox.url)
    if port:
        form.standard("Port").fill(str(sandbox.connection["port"]))
    form.paste_key(key or sandbox.connection["password"])
    form.open_extra()
    form.write("Client ID", extra["client_id"])
    if kid:
        form.write("Key ID", extra["kid"])
    form.choose("Environment", extra["environment"])
    form.write("Default destination", extra["destination"])
    form.write_json("Destinations", extra["destinations"])


def key_lines(pem: str) -> list[str]:
    """Give the lines of a key's body: each is secret however the line ends were changed."""
    return [line for line in pem.splitlines() if len(line) > 16 and "-----" not in line]


def test_a_pasted_key_connects(connections: Connections, airflow: LocalAirflow, sandbox: Sandbox, picture: Picture) -> None:
    """Paste a PEM with its line ends, fill in the fields that matter, save, test: the page says that Redox accepts the key.

    The browser makes one line of what is pasted, a space for each line end.
    """
    form = connections.add("redox_default")
    fill_in(form, sandbox)
    connections.page.set_viewport_size({"width": 1200, "height": 1500})
    picture(connections.page, "connection-extra", clip=form.from_extra_to("Source ID"))
    connections.page.set_viewport_size({"width": 1200, "height": 900})
    form.dialog.get_by_role("button", name="Standard Fields").click()
    pasted = form.standard("Private key")
    pasted.wait_for()
    assert pasted.input_value() == sandbox.connection["password"].strip().replace("\n", " ")
    assert pasted.get_attribute("type") == "password"
    picture(form.dialog, "connection-form")
    form.save()

    extra = sandbox.connection["extra"]
    connection = stored(airflow, "redox_default")
    entered = ("client_id", "kid", "environment", "destination", "destinations")
    assert given(connection["extra"]) == {name: extra[name] for name in entered}
    assert (connection["host"], connection["port"]) == (sandbox.connection["host"], sandbox.connection["port"])

    connections.page.set_viewport_size({"width": 1200, "height": 460})
    connections.page.reload()
    tested = connections.test("redox_default")
    picture(connections.page, "connection-test-ok")
    assert tested.shown.startswith("Test Connection Successful\nRedox accepts the key")
    assert extra["kid"] in tested.shown
    assert extra["client_id"] in tested.shown
    assert tested.colour == GREEN
    assert tested.answer["status"] is True


def test_the_stored_key_is_seen_by_nobody_and_survives_an_edit(
    connections: Connections, airflow: LocalAirflow, visit: Visit, sandbox: Sandbox
) -> None:
    """Who opens a stored connection gets asterisks for the key, and a change of another field leaves the key as it was.

    Nothing that the page shows or has received holds a line of the key. A DAG run then signs in with the stored key.
    """
    fill_in(form := connections.add("redox_default"), sandbox)
    form.save()
    form = connections.edit("redox_default")
    key = form.standard("Private key")
    assert (key.get_attribute("type"), key.input_value()) == ("password", "***")
    form.dialog.get_by_role("button", name="Show value").click()
    assert (key.get_attribute("type"), key.input_value()) == ("text", "***")
    form.standard("Description").fill("Development, read by the nightly cohort")
    html = connections.page.content()
    form.save()
    assert stored(airflow, "redox_default")["description"] == "Development, read by the nightly cohort"
    connections.test("redox_default")

    answers = visit.answers()
    assert any("read by the nightly cohort" in text for text in answers.values())
    secret = key_lines(sandbox.connection["password"])
    assert len(secret) > 20
    assert not [name for name, text in {**answers, "the page": html}.items() if any(line in text for line in secret)]

    airflow.wait_for_dags()
    run_id = airflow.trigger("redox_minimal_fhir_search")
    state = airflow.wait("redox_minimal_fhir_search", run_id, timeout=120)
    assert state == "success", airflow.task_log("redox_minimal_fhir_search", run_id, "patients")
    assert sandbox.ledger("/Patient/_search")


def test_a_wrong_key_is_told_in_words(connections: Connections, sandbox: Sandbox, picture: Picture) -> None:
    """A key that is not the one Redox has under this key ID: the page says what failed and which fields to look at."""
    fill_in(form := connections.add("redox_default"), sandbox, key=pkcs8("RSA 2048"))
    form.save()
    connections.page.set_viewport_size({"width": 1200, "height": 540})
    connections.page.reload()
    tested = connections.test("redox_default")
    picture(connections.page, "connection-test-failed")
    assert tested.shown.startswith("Test Connection Failed\n")
    assert "invalid_client" in tested.shown
    assert "extra.kid and the private key belong to the public key" in tested.shown
    assert tested.colour == RED
    assert tested.answer["status"] is False
    assert not [line for line in key_lines(pkcs8("RSA 2048")) if line in tested.shown]


def test_without_a_port_the_button_cannot_work(connections: Connections, airflow: LocalAirflow, sandbox: Sandbox) -> None:
    """Airflow's page sends port 0 for a connection without a port, and the API refuses that as another port.

    The page shows no more than "Bad Request". So the form hints at the port, and with one the button works.
    """
    form = connections.add("redox_default")
    hint = form.standard("Port").get_attribute("placeholder")
    assert hint is not None
    assert hint.startswith("443")
    assert "Test" in hint
    fill_in(form, sandbox, port=False)
    form.save()
    assert stored(airflow, "redox_default")["port"] is None
    tested = connections.test("redox_default")
    assert tested.shown == "Test Connection Failed\nBad Request"
    assert tested.status == 400
    assert "host or port to test differs" in tested.answer["detail"]
    assert not sandbox.ledger("/auth/token")

    connections.page.reload()
    form = connections.edit("redox_default")
    form.standard("Port").fill(str(sandbox.connection["port"]))
    form.save()
    assert "Redox accepts the key" in connections.test("redox_default").shown


def test_a_pasted_jwk_connects(connections: Connections, airflow: LocalAirflow, sandbox: Sandbox) -> None:
    """A JWK goes into the same field, indented or not, and brings its key ID with it."""
    extra = sandbox.connection["extra"]
    own = json.dumps(sandbox_jwk(sandbox), indent=2)
    fill_in(form := connections.add("redox_default"), sandbox, key=own, kid=False)
    form.save()
    assert "kid" not in given(stored(airflow, "redox_default")["extra"])
    tested = connections.test("redox_default")
    assert tested.shown.startswith(f"Test Connection Successful\nRedox accepts the key {extra['kid']} ")


def sandbox_jwk(sandbox: Sandbox) -> dict[str, Any]:
    """Give the sandbox's key as a JWK with its key ID."""
    from joserfc.jwk import RSAKey

    key = RSAKey.import_key(sandbox.connection["password"])
    return {**key.as_dict(private=True), "kid": sandbox.connection["extra"]["kid"]}


def test_nothing_is_stored_for_what_was_left_empty(connections: Connections, airflow: LocalAirflow) -> None:
    """A form with nothing filled in can be saved; no field, no drop-down among them, stores a value."""
    form = connections.add("redox_default")
    form.open_extra()
    form.save()
    connection = stored(airflow, "redox_default")
    assert given(connection["extra"]) == {}
    assert set(connection["extra"]) == set(get_provider_info()["connection-types"][0]["conn-fields"])
    assert not any(connection[name] for name in ("host", "login", "password", "port", "schema"))


def test_drop_downs_offer_their_choices_and_can_be_emptied(connections: Connections, airflow: LocalAirflow) -> None:
    """Three fields are drop-downs. What was chosen and saved can be taken back, which stores nothing."""
    offered = {
        "Environment": ["Development", "Staging", "Production"],
        "Algorithm": ["RS384", "ES384"],
        "Token cache": ["variable", "xcom", "memory"],
    }
    form = connections.add("redox_default")
    form.open_extra()
    for label, choices in offered.items():
        assert form.choices(label) == choices
        connections.page.get_by_role("option", name=choices[-1], exact=True).click()
    form.save()
    chosen = {"environment": "Production", "algorithm": "ES384", "cache_backend": "memory"}
    assert given(stored(airflow, "redox_default")["extra"]) == chosen
    form = connections.edit("redox_default")
    form.open_extra()
    form.clear_choice("Algorithm")
    form.save()
    assert given(stored(airflow, "redox_default")["extra"]) == {
        "environment": "Production",
        "cache_backend": "memory",
    }


def test_objects_and_numbers_come_back_as_they_were(
    connections: Connections, airflow: LocalAirflow, sandbox: Sandbox
) -> None:
    """Destinations, headers and meta are stored as objects, seconds as numbers, and shown again as they were entered.

    A number above its maximum becomes the maximum in the form itself.
    """
    destinations = {"general": sandbox.connection["extra"]["destinations"]["general"]}
    form = connections.add("redox_default")
    form.open_extra()
    form.write_json("Destinations", destinations)
    form.write_json("Headers", {"X-Team": "cohort"})
    form.write_json("Meta", {"FacilityCode": "GEN-01"})
    form.write("Read timeout", "45")
    form.write("Requests in 5 minutes", "99999")
    form.save()
    entered = {
        "destinations": destinations,
        "headers": {"X-Team": "cohort"},
        "meta": {"FacilityCode": "GEN-01"},
        "timeout": 45,
        "requests_per_5min": 10_000,
    }
    assert given(stored(airflow, "redox_default")["extra"]) == entered

    form = connections.edit("redox_default")
    form.standard("Description").fill("seen again")
    form.open_extra()
    assert form.json("Destinations") == destinations
    assert form.json("Meta") == {"FacilityCode": "GEN-01"}
    assert form.written("Read timeout") == "45"
    form.save()
    assert given(stored(airflow, "redox_default")["extra"]) == entered


def test_what_a_user_must_not_fill_in_is_not_there(connections: Connections) -> None:
    """The form has no Login, whose value other hooks would send with the key, and no Schema."""
    form = connections.add("redox_default")
    shown = form.dialog.get_by_role("region").first.get_by_role("group").locator("label").all_inner_texts()
    assert [label.strip() for label in shown] == ["Description", "API base URL", "Private key", "Port"]


def test_every_extra_field_is_shown_with_its_description(connections: Connections) -> None:
    """The extra fields stand in the order of the metadata, each with the words that explain it."""
    form = connections.add("redox_default")
    form.open_extra()
    described = get_provider_info()["connection-types"][0]["conn-fields"].values()
    shown = form.dialog.locator("[id^='field::'][id$='::label']").all_inner_texts()
    labels = [one["label"] for one in described]
    assert [label.strip() for label in shown if label.strip() in labels] == labels
    for one in described:
        assert one["description"] in form.extra(one["label"]).inner_text()
