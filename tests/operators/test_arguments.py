"""Every argument of every operator and sensor: only None means default, and what cannot be meant is refused by its name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.get_provider_info import get_provider_info
from airflow_provider_redox.operators.arguments import rules_of
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow.models.dag import DAG  # type: ignore[no-redef]

LEAST: dict[str, dict[str, Any]] = {
    "RedoxCheckConnectionOperator": {},
    "RedoxDataModelPostOperator": {"payload": {"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}}},
    "RedoxDataModelQueryOperator": {"payload": {"Meta": {"DataModel": "PatientSearch", "EventType": "Query"}}},
    "RedoxDeliverySensor": {"log_ids": ["1"]},
    "RedoxDocumentDownloadOperator": {"urls": ["Binary/1"]},
    "RedoxFhirReadOperator": {"resource_type": "Patient", "resource_id": "1"},
    "RedoxFhirSearchOperator": {"resource_type": "Patient"},
    "RedoxFhirSearchSensor": {"resource_type": "Patient", "search_params": {"_id": "1"}},
    "RedoxFhirWritebackOperator": {"resource_type": "Observation", "operation": "$create", "bundle": {"type": "message"}},
    "RedoxInboxSensor": {"inbox_path": "/inbox"},
    "RedoxPurgeOperator": {},
    "RedoxRequestOperator": {"method": "GET", "path": "x"},
    "RedoxUploadOperator": {"path": "/x"},
}
"""What each class cannot do without."""

LISTS = {"destinations", "urls", "log_ids", "paths"}

INSTEAD = {
    **dict.fromkeys(("payload_path",), "payload"),
    **dict.fromkeys(("results_path", "destination", "window"), "log_ids"),
    "manifest": "urls",
    "bundle_path": "bundle",
    "paths": "path",
}
"""Which argument gives way to another."""

NEEDS: dict[str, dict[str, Any]] = {
    "ledger_path": {"idempotency_key": "/Patient/ID"},
    "RedoxDeliverySensor.window": {"destination": "lakeside"},
    "patients_path": {"destination": "general"},
}
"""Which argument an argument needs beside it."""

NOTHING: list[Any] = ["", "  ", "None", []]
"""What an empty template or result leaves."""

CONTENT = {"json", "data"}
"""What is sent as it was written, and chooses neither a place nor a person nor a rule."""


def public() -> dict[str, type]:
    """Every operator and sensor that a DAG may import."""
    modules = [
        name for kind in ("operators", "sensors") for one in get_provider_info()[kind] for name in one["python-modules"]
    ]
    found = [(name, one) for module in modules for name, one in vars(importlib.import_module(module)).items()]
    return {name: one for name, one in found if inspect.isclass(one) and issubclass(one, BaseOperator) and name in LEAST}


CLASSES = public()


def own(kind: type) -> list[str]:
    """The arguments that our own classes take."""
    ours = [cls for cls in kind.__mro__ if cls.__module__.startswith("airflow_provider_redox") and "__init__" in vars(cls)]
    named = [name for cls in ours for name in inspect.signature(cls.__init__).parameters]
    return sorted({*named} - {"self", "kwargs", "poke_interval"})


ALL = [(kind, name) for kind in sorted(CLASSES) for name in own(CLASSES[kind])]
CHOOSING = [(kind, name) for kind, name in ALL if name not in CONTENT]
TEMPLATED = [
    (kind, name)
    for kind, name in CHOOSING
    if name in (*CLASSES[kind].template_fields, *CLASSES[kind].rendered_privately)  # type: ignore[attr-defined]
]


def made(kind: str, **arguments: Any) -> Any:
    """Make an operator of its least arguments and these, with what they need and without what they replace."""
    name = next(iter(arguments), "")
    needed = NEEDS.get(f"{kind}.{name}", NEEDS.get(name, {}))
    least = {one: value for one, value in LEAST[kind].items() if INSTEAD.get(name) != one}
    return CLASSES[kind](task_id="t", **{**least, **needed, **arguments})


class Result:
    """What another task gave, as Airflow resolves it when it renders a task's arguments."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def resolve(self, *_: Any, **__: Any) -> Any:
        return self.value


def run(kind: str, name: str, value: Any) -> None:
    """Run an operator with an argument that came out like this."""
    facts = context()
    if (kind, name) in TEMPLATED:
        operator = made(kind, **{name: Result(value)})
        operator.render_template_fields(facts)
    else:
        operator = made(kind)
        setattr(operator, name, value)
    operator.execute(facts)


def context(**facts: Any) -> Any:
    ti = SimpleNamespace(
        dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1, max_tries=0, xcom_pull=lambda **_: None
    )
    return {"ti": ti, "dag_run": SimpleNamespace(start_date=datetime.now(UTC)), **facts}


@pytest.fixture
def nothing_sent(redox_connection: Sandbox) -> Iterator[Sandbox]:
    """A sandbox that at the end has seen no request."""
    yield redox_connection
    assert redox_connection.ledger() == []


def test_every_class_is_looked_at():
    """A new operator needs a line here."""
    every = {
        name
        for kind in ("operators", "sensors")
        for one in get_provider_info()[kind]
        for module in one["python-modules"]
        for name, found in vars(importlib.import_module(module)).items()
        if name.startswith("Redox") and inspect.isclass(found) and issubclass(found, BaseOperator)
    }
    bases = {"RedoxOperator", "RedoxSensor"}
    assert every - bases == set(LEAST) == set(CLASSES)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_argument_has_a_rule(kind: str, name: str):
    """A new argument cannot be forgotten."""
    assert name in rules_of(CLASSES[kind])


@pytest.mark.parametrize("kind", LEAST)
def test_what_is_right_is_taken(kind: str):
    """The rules refuse none of the least arguments."""
    assert made(kind).task_id == "t"


@pytest.mark.parametrize(("kind", "name"), CHOOSING)
def test_nothing_is_no_default_when_the_dag_is_read(kind: str, name: str):
    """A literal that is empty is an import error that names the argument."""
    for value in NOTHING:
        with pytest.raises(RedoxConfigError, match=rf"^{name}[:\[]"):
            made(kind, **{name: value})


@pytest.mark.parametrize("kind", LEAST)
def test_nothing_is_no_default_when_the_task_runs(kind: str, nothing_sent: Sandbox):
    """What came out empty, of a template or of another task, is refused by its name before any request leaves."""
    for name, value in ((name, value) for one, name in CHOOSING if one == kind for value in NOTHING):
        with refused(f"{name}: "):
            run(kind, name, value)


@pytest.mark.parametrize(("kind", "name"), TEMPLATED)
def test_none_is_no_default_where_something_was_given(kind: str, name: str, nothing_sent: Sandbox):
    """A task that returned None, or a native template of None, does not choose the connection's own hospital."""
    with refused(f"{name}: "):
        run(kind, name, None)


RENDERED = [(kind, name) for kind, name in TEMPLATED if name in CLASSES[kind].template_fields and name != "window"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("native", [False, True], ids=["texts", "native"])
@pytest.mark.parametrize(("kind", "name"), RENDERED)
def test_a_template_that_came_out_as_nothing_is_refused(kind: str, name: str, native: bool, nothing_sent: Sandbox):  # noqa: FBT001
    """Whole or in part: `s3://bucket/{{ tenant }}` without a tenant is the root of all tenants."""
    for text in ("{{ nothing }}", "s3://bucket/{{ nothing }}", "s3://bucket/{{ blank }}/x", "{{ blank }}"):
        with DAG("d", schedule=None, render_template_as_native_obj=native):
            operator = made(kind, **{name: [text] if name in LISTS else text})
        with refused(name):
            rendered_and_run(operator, context(nothing=None, blank=""))


def rendered_and_run(operator: Any, facts: Any) -> None:
    """Run a task as Airflow does. What is None is refused when it is rendered, what is empty when it runs."""
    operator.render_template_fields(facts)
    operator.execute(facts)


@pytest.mark.parametrize("native", [False, True], ids=["texts", "native"])
def test_a_template_that_came_out_as_something_is_taken(native: bool, nothing_sent: Sandbox):  # noqa: FBT001
    """A conditional part is a block, which may be empty; a value is put in."""
    with DAG("d", schedule=None, render_template_as_native_obj=native):
        operator = made("RedoxFhirSearchOperator", output_path="s3://b/{{ tenant }}{% if dev %}-dev{% endif %}")
    operator.render_template_fields(context(tenant="a", dev=False))
    assert operator.output_path == "s3://b/a"
    operator.check_arguments()


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("RedoxFhirSearchOperator", {"resource_type": "Patients"}, "such as Patient; did you mean Patient?"),
    ("RedoxFhirSearchOperator", {"compression": "gz"}, "compression: must be one of gzip"),
    ("RedoxFhirSearchOperator", {"since": "last_sucess"}, "did you mean last_success?"),
    ("RedoxFhirSearchOperator", {"on_error": "ignore"}, "on_error: must be one of fail, record"),
    ("RedoxFhirSearchOperator", {"on_total_mismatch": "Warn"}, "did you mean warn?"),
    ("RedoxFhirSearchOperator", {"handling": "strct"}, "did you mean strict?"),
    ("RedoxFhirSearchOperator", {"line_format": "envelop"}, "did you mean envelope?"),
    ("RedoxFhirSearchOperator", {"validate": "strict"}, "validate: must be one of off, report"),
    ("RedoxFhirSearchOperator", {"max_concurrency": 0}, "max_concurrency: must be a whole number from 1 to 64"),
    ("RedoxFhirSearchOperator", {"max_concurrency": "8"}, "max_concurrency: must be a whole number"),
    ("RedoxFhirSearchOperator", {"max_file_bytes": 1}, "max_file_bytes: must be a whole number from 1048576"),
    ("RedoxFhirSearchOperator", {"cohort_key": "mrn"}, "cohort_key: needs a cohort"),
    ("RedoxFhirSearchOperator", {"window_parts": 2}, "window_parts: needs a window"),
    ("RedoxFhirSearchOperator", {"environment": "production"}, "did you mean Production?"),
    ("RedoxFhirSearchOperator", {"audit": "best-effort"}, "did you mean best_effort?"),
    ("RedoxFhirSearchOperator", {"headers": {"X-Purpose": ""}}, "headers: must be a mapping"),
    ("RedoxFhirSearchOperator", {"output_path": "results"}, "output_path: must be an absolute path or a URL"),
    (
        "RedoxFhirSearchOperator",
        {"output_path": "s3://AKIA0:secret@b/x"},
        "output_path: what stands before the @ must be a connection",
    ),
    ("RedoxFhirSearchOperator", {"cohort": "roster.csv"}, "cohort: must be an absolute path or a URL"),
    ("RedoxFhirSearchOperator", {"window": "2026-01-01"}, "window: must be two instants"),
    ("RedoxFhirSearchOperator", {"window": ("2026-01-02", "2026-01-01")}, "window: its end lies before its start"),
    (
        "RedoxFhirSearchOperator",
        {"window": ("2026-01-01T00:00", "2026-01-02T00:00")},
        "window: its start has no time zone; write it as",
    ),
    (
        "RedoxFhirSearchOperator",
        {"search_params": {"identifier": "{mrn}"}},
        "search_params: identifier holds {mrn}, which only a cohort fills",
    ),
    (
        "RedoxFhirSearchOperator",
        {"search_params": [{"code": "1"}, {"identifier": "urn:mrn|{MRN:token}"}]},
        "identifier holds {MRN:token}",
    ),
    ("RedoxFhirSearchSensor", {"search_params": {"patient": ["{id}"]}}, "search_params: patient holds {id}, which only a"),
    ("RedoxDataModelQueryOperator", {"payload": {"Meta": {}, "Patient": {"DOB": "{dob}"}}}, "payload: DOB holds {dob}"),
    ("RedoxDataModelQueryOperator", {"cohort": "roster.csv"}, "cohort: must be an absolute path or a URL"),
    ("RedoxDocumentDownloadOperator", {"manifest": "manifest.json", "urls": None}, "manifest: must be an absolute path"),
    ("RedoxPurgeOperator", {"patients_path": "/p.txt", "destination": None}, "destination: missing; logical IDs"),
    ("RedoxDataModelPostOperator", {"payload": None}, "payload, payload_path: give one of them"),
    ("RedoxDataModelPostOperator", {"payload": ["x"]}, "payload: must be one message"),
    ("RedoxDataModelPostOperator", {"on_ambiguous": "reconsile"}, "did you mean reconcile?"),
    ("RedoxDataModelPostOperator", {"resend": "false"}, "resend: must be True or False"),
    (
        "RedoxDataModelPostOperator",
        {"idempotency_key": "Patient/ID", "ledger_path": "/l"},
        "idempotency_key: must be a JSON",
    ),
    ("RedoxDataModelPostOperator", {"idempotency_key": "/a"}, "idempotency_key, ledger_path: one needs the other"),
    ("RedoxDataModelPostOperator", {"destinations": ["general", ""]}, "destinations[1]: is empty"),
    ("RedoxDataModelPostOperator", {"destinations": "general"}, "destinations: must be a list of texts"),
    (
        "RedoxDataModelPostOperator",
        {"delivery_timeout": timedelta(seconds=-1)},
        "delivery_timeout: must be seconds or a timedelta",
    ),
    ("RedoxDataModelPostOperator", {"wait_for_delivery": "no"}, "wait_for_delivery: must be True or False"),
    ("RedoxDataModelQueryOperator", {"payload": "text"}, "payload: must be one message"),
    ("RedoxDocumentDownloadOperator", {"urls": None}, "manifest, urls: give one of them"),
    ("RedoxDocumentDownloadOperator", {"urls": "Binary/1"}, "urls: must be a list of texts"),
    ("RedoxFhirReadOperator", {"resource_type": "patient"}, "did you mean Patient?"),
    ("RedoxFhirWritebackOperator", {"bundle": None}, "bundle, bundle_path: give one of them"),
    ("RedoxRequestOperator", {"method": "FETCH"}, "method: must be one of GET"),
    ("RedoxRequestOperator", {"query_params": {}}, "query_params: is empty"),
    ("RedoxRequestOperator", {"idempotent": "False"}, "idempotent: must be True or False"),
    ("RedoxUploadOperator", {"path": None}, "path, paths: give one of them"),
    ("RedoxPurgeOperator", {"older_than": 90}, "older_than: must be a timedelta"),
    ("RedoxPurgeOperator", {"older_than": timedelta(days=-90)}, "older_than: must be a timedelta"),
    ("RedoxPurgeOperator", {"plan_only": "True"}, "plan_only: must be True or False"),
    ("RedoxDeliverySensor", {"log_ids": None}, "log_ids, results_path, destination: give one of them"),
    ("RedoxDeliverySensor", {"filtered": "acept"}, "did you mean accept?"),
    ("RedoxDeliverySensor", {"data_mode": "live"}, "data_mode: must be one of realtime, backfill"),
    ("RedoxFhirSearchSensor", {"min_count": 0}, "min_count: must be a whole number from 1"),
    ("RedoxInboxSensor", {"max_messages": 0}, "max_messages: must be a whole number from 1"),
    ("RedoxInboxSensor", {"data_model": ["Results", " "]}, "data_model[1]: is empty"),
]


@pytest.mark.parametrize(("kind", "arguments", "words"), WRONG, ids=[f"{kind} {given}" for kind, given, _ in WRONG])
def test_a_typing_error_is_an_import_error(kind: str, arguments: dict[str, Any], words: str):
    """Its first hundred characters name the argument, what it may be, and the word that was meant."""
    with pytest.raises(RedoxConfigError) as raised:
        made(kind, **arguments)
    assert words in str(raised.value)[:100]


@pytest.mark.parametrize(
    "arguments",
    [{"resource_type": "{{ params.kind }}"}, {"environment": "{{ var.value.env }}"}, {"output_path": "{{ root }}"}],
)
def test_a_template_waits_until_it_is_rendered(arguments: dict[str, Any]):
    """What is not known when the DAG is read is not judged then."""
    assert made("RedoxFhirSearchOperator", **arguments).task_id == "t"


@pytest.mark.parametrize(
    "value",
    ["{{ params.x }}", "{{mrn}}", "5.4|http://unitsofmeasure.org|{score}", "5.4||{score}", "{", "{}", "a{{% raw %}}"],
)
def test_braces_that_are_no_field_of_a_cohort_are_taken(value: str):
    """Templates, and the annotations of units."""
    assert made("RedoxFhirSearchOperator", search_params={"value-quantity": value}).task_id == "t"


def test_a_payload_may_speak_of_braces():
    """Only a text that is one field and nothing else was meant for a cohort."""
    payload = {"Meta": {"DataModel": "PatientSearch", "EventType": "Query"}, "Note": "as {such}"}
    assert made("RedoxDataModelQueryOperator", payload=payload).task_id == "t"


def test_a_result_of_another_task_waits_too():
    """An XComArg is not judged when the DAG is read."""
    with DAG("d", schedule=None):
        first = CLASSES["RedoxFhirSearchOperator"](task_id="first", resource_type="Patient")
        second = made("RedoxDocumentDownloadOperator", urls=first.output["urls"], destination=first.output["where"])
    assert second.upstream_task_ids == {"first"}


def test_what_a_mapped_task_is_given_is_judged_when_it_is_made():
    """`expand` over a list that holds an empty text does not ask the connection's own hospital."""
    with pytest.raises(RedoxConfigError, match=r"^destination: is empty"):
        CLASSES["RedoxFhirSearchOperator"](task_id="t", resource_type="Patient", destination="", _airflow_from_mapped=True)


PRIVATE = [(kind, name) for kind, name in TEMPLATED if name in CLASSES[kind].rendered_privately]  # type: ignore[attr-defined]


@pytest.mark.parametrize("native", [False, True], ids=["texts", "native"])
@pytest.mark.parametrize(("kind", "name"), [one for one in PRIVATE if one[1] not in ("payload", "bundle")])
def test_a_filter_of_which_a_part_is_nothing_is_refused(kind: str, name: str, native: bool, nothing_sent: Sandbox):  # noqa: FBT001
    """`http://mrn|` asks for everybody who has an MRN, and `?patient=` for everybody."""
    for text in ("http://mrn|{{ nothing }}", "Observation?patient={{ blank }}", "{{ nothing | default('x') }}"):
        value = (
            {"identifier": text} if name in ("search_params", "query_params", "form") else [text] if name in LISTS else text
        )
        with DAG("d", schedule=None, render_template_as_native_obj=native):
            operator = made(kind, **{name: value})
        facts = context(nothing=None, blank="")
        operator.render_template_fields(facts)
        with refused(name):
            operator.execute(facts)


def test_a_filter_that_is_nothing_is_named(nothing_sent: Sandbox):
    """Of many parameters, the one whose template came out as nothing."""
    operator = made("RedoxFhirSearchOperator", search_params={"code": "{{ code }}", "patient": "{{ blank }}"})
    with refused("search_params: patient: a {{ }} in it rendered to nothing"):
        operator.execute(context(code="1", blank=""))


def test_a_blank_field_of_a_message_is_its_authors():
    """What is sent as it was written may be empty: a middle name that there is not."""
    operator = made("RedoxDataModelPostOperator", payload={"Meta": {}, "Patient": {"MiddleName": "{{ blank }}"}})
    payload = operator.checked("payload", operator.rendered(operator.payload, context(blank="")))
    assert payload["Patient"] == {"MiddleName": ""}


@pytest.mark.parametrize(
    "text", ["s3://b/{{ logical_date | ds }}", "s3://b/{{ params.tenant }}", "s3://b/{{ x | default('y') }}"]
)
def test_what_airflow_leaves_empty_is_no_folder_none(text: str, nothing_sent: Sandbox):
    """A run without a logical date, a param that the form emptied, a default that Jinja takes for undefined names only."""
    operator = made("RedoxFhirSearchOperator", output_path=text)
    facts = context(logical_date=None, params={"tenant": None}, x=None)
    operator.render_template_fields(facts)
    with refused("output_path: a {{ }} in it rendered to nothing"):
        operator.execute(facts)


@pytest.mark.parametrize("native", [False, True], ids=["texts", "native"])
@pytest.mark.parametrize("undefined", [jinja2.Undefined, jinja2.ChainableUndefined, jinja2.DebugUndefined])
@pytest.mark.parametrize("name", ["params.tenant", "missing", "[] | first"])
def test_a_name_that_the_dag_lets_pass_is_no_part_of_a_place_or_a_filter(
    name: str,
    undefined: Any,
    native: bool,  # noqa: FBT001
    nothing_sent: Sandbox,
):
    """With `template_undefined=jinja2.Undefined` a misspelt name is nothing: `s3://bucket/` is the root of all tenants."""
    for argument, value in (
        ("output_path", f"s3://b/{{{{ {name} }}}}"),
        ("search_params", {"identifier": f"m|{{{{ {name} }}}}"}),
    ):
        with DAG("d", schedule=None, render_template_as_native_obj=native, template_undefined=undefined):
            operator = made("RedoxFhirSearchOperator", **{argument: value})
        facts = context(params={})
        operator.render_template_fields(facts)
        with refused(f"{argument}: a {{{{ }}}} in it rendered to nothing"):
            operator.execute(facts)


def test_an_inline_if_without_an_else_is_meant_to_be_nothing():
    """The way to put commas between the values of a list."""
    text = "{% for code in codes %}{{ code }}{{ ',' if not loop.last }}{% endfor %}"
    operator = made("RedoxFhirSearchOperator", search_params={"code": text})
    facts = context(codes=["a", "b"])
    assert operator.checked("search_params", operator.rendered(operator.search_params, facts)) == {"code": "a,b"}
