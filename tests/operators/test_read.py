"""Reading one resource: to storage, digit for digit, and nothing of it anywhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import RedoxProtocolError, RedoxResponseError
from airflow_provider_redox.operators.fhir_read import RedoxFhirReadOperator
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox

KEVA = "81c2f5eb-f99f-40c4-b504-59483e6148d7"


def operator(output: str, **arguments: Any) -> RedoxFhirReadOperator:
    made = RedoxFhirReadOperator(
        task_id="read", **{"resource_type": "Patient", "resource_id": KEVA, "output_path": output, **arguments}
    )
    made.hook.retry = RetryPolicy(attempts=3, base=0.01, cap=0.02)
    return made


def only_file(manifest: dict[str, Any]) -> bytes:
    (entry,) = manifest["output"]
    return Path(entry["url"].removeprefix("file://")).read_bytes()


def test_a_resource_goes_to_storage(execute: Callable[..., Any], output: str):
    """The resource is one line of NDJSON; XCom gets the manifest, without the resource and its ID."""
    manifest = execute(operator(output))
    assert json.loads(only_file(manifest))["name"][0]["family"] == "Green"
    assert (manifest["output"][0]["type"], manifest["output"][0]["count"]) == ("Patient", 1)
    assert manifest["request"].endswith("/fhir/R4/general-hospital/Development/Patient")
    assert KEVA not in json.dumps(manifest)
    assert "Green" not in json.dumps(manifest)


def test_a_resource_keeps_its_digits(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """1.10 stays 1.10, however the answer was indented."""
    body = '\ufeff{\n "resourceType": "Observation",\n "id": "o1",\n "value": 1.10\n}\n'
    sandbox.fault("status", status=200, body=body, match={"path": "/Observation/"})
    manifest = execute(operator(output, resource_type="Observation", resource_id="o1"))
    assert only_file(manifest) == b'{"resourceType":"Observation","id":"o1","value":1.10}\n'


@pytest.mark.parametrize("fault", [{"kind": "drop"}, {"kind": "status", "status": 500}, {"kind": "html"}], ids=str)
def test_reading_is_repeated(execute: Callable[..., Any], output: str, sandbox: Sandbox, fault: dict[str, Any]):
    """A fault that passes is healed, and Airflow's retries are free."""
    sandbox.fault(match={"path": "/Patient/"}, times=1, **fault)
    assert execute(operator(output, retries=3))["output"]
    assert operator(output, retries=3).retries == 3


def test_a_resource_that_is_not_there_is_an_error(execute: Callable[..., Any], output: str):
    """404 fails for good, without the ID, and leaves no result."""
    with pytest.raises(AirflowFailException) as caught:
        execute(operator(output, resource_id="no-such-one"))
    assert isinstance(caught.value.__cause__, RedoxResponseError)
    assert "no-such-one" not in str(caught.value)
    assert not list(Path(output.removeprefix("file://")).rglob("*.ndjson"))


@pytest.mark.parametrize("other", [{"resourceType": "Person", "id": KEVA}, {"resourceType": "Patient", "id": "other"}])
def test_another_resource_is_no_answer(execute: Callable[..., Any], output: str, sandbox: Sandbox, other: dict[str, Any]):
    """A server that answers with somebody else's record is not believed."""
    sandbox.fault("body", body=json.dumps(other), match={"path": "/Patient/"}, times=9)
    with pytest.raises(RedoxProtocolError, match="another resource"):
        execute(operator(output))
    assert not list(Path(output.removeprefix("file://")).rglob("*.ndjson"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"resource_id": ""}, "resource_id"),
        ({"resource_id": "a/b"}, "resource_id"),
        ({"resource_id": ".."}, "resource_id"),
        ({"resource_id": None}, "resource_id"),
        ({"resource_type": "patient"}, "resource_type"),
        ({"environment": "production"}, "environment"),
    ],
)
def test_bad_reads_are_named_before_anything_is_sent(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, arguments: dict[str, Any], words: str
):
    """What cannot be right is a RedoxConfigError, with nothing sent."""
    with refused(words):
        execute(operator(output, **arguments))
    assert sandbox.ledger() == []


def test_an_id_is_templated_and_yet_no_template_field(execute: Callable[..., Any], output: str):
    """A logical ID identifies a patient, so Airflow does not store it."""
    assert execute(operator(output, resource_id=f"{{{{ '{KEVA}' }}}}"))["output"]
    assert "resource_id" not in RedoxFhirReadOperator.template_fields
