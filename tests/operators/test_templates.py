"""What an author wrote is sent as written in every rendering mode, and what comes from elsewhere is no template."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.operators.fhir import RedoxFhirReadOperator, RedoxFhirSearchOperator
from airflow_provider_redox.operators.purge import RedoxPurgeOperator
from airflow_provider_redox.sensors.delivery import RedoxDeliverySensor
from airflow_provider_redox.sensors.inbox import RedoxInboxSensor
from tests.support.sandbox import Sandbox
from tests.support.tasks import Pulled

ROOT = Path(__file__).resolve().parents[2]

LITERAL = [
    "7.50",
    "None",
    "1_000_234",
    "+18085551212",
    "1E5",
    "0012345",
    "[1]",
    "{'a': 1}",
    "True",
    "'x'",
    "a\r\nb\n",
    "1,2",
    "",
]


def context(**more: Any) -> Any:
    return {"number": "0012345", "rows": [{"a": 1}], "nothing": None, "when": datetime(2026, 1, 1, tzinfo=UTC), **more}


@pytest.fixture(params=[False, True], ids=["as text", "native"])
def rendered(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Render a value as an operator of a DAG does."""

    def render(value: Any, **options: Any) -> Any:
        with DAG("d", schedule=None, render_template_as_native_obj=request.param, **options):
            operator = RedoxFhirReadOperator(task_id="t", resource_type="Patient", resource_id="1")
        return operator.rendered(value, context())

    render.native = request.param  # type: ignore[attr-defined]
    return render


@pytest.mark.parametrize("text", LITERAL)
def test_a_literal_text_is_the_same_text_in_every_mode(rendered: Callable[..., Any], text: str):
    """Airflow's native mode reads each as a Python literal; a carriage return and a last line break stay too."""
    for value in (text, {"a": [text, (text,)]}):
        assert rendered(value) == value


@given(st.text())
def test_any_text_without_a_template_is_not_changed(text: str):
    """Whatever it looks like."""
    with DAG("d", schedule=None, render_template_as_native_obj=True):
        operator = RedoxFhirReadOperator(task_id="t", resource_type="Patient", resource_id="1")
    if not any(mark in text for mark in ("{{", "{%", "{#")):
        assert operator.rendered(text, context()) == text


@pytest.mark.parametrize(
    ("text", "as_text", "native"),
    [
        ("{{ number }}", "0012345", "0012345"),
        ("{{ rows }}", "[{'a': 1}]", [{"a": 1}]),
        ("\n{{ rows }}\n", "\n[{'a': 1}]\n", [{"a": 1}]),
        ("{{ 7.50 }}", "7.5", 7.5),
        ("{{ [1, 2] }}", "[1, 2]", [1, 2]),
        ("{{ nothing }}", "None", None),
        ("{{ when }}", "2026-01-01 00:00:00+00:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("{{ when | ts }}", "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"),
        ("{% if rows %}{{ rows[0].a }}{% endif %}", "1", 1),
        ("{% if rows %}7.50{% endif %}", "7.50", "7.50"),
        ("{% for row in rows %}{{ row.a }}.50{% endfor %}", "1.50", "1.50"),
        ("{{ rows[0].a }}.50", "1.50", "1.50"),
        ("[{{ number }}]", "[0012345]", "[0012345]"),
        ("{{ number }}{{ number }}", "00123450012345", "00123450012345"),
        ("1_0{# remark #}", "1_0", "1_0"),
        ("{{ '{}' }}", "{}", "{}"),
        ("{{ 3 | string }}", "3", "3"),
        ("0.000{{ rows[0].a }}", "0.0001", "0.0001"),
        ("{% if nothing %}1{% endif %}", "", ""),
        ("MSH|{{ number }}\rPID|\r\n{{\r\nnumber }}\r", "MSH|0012345\rPID|\r\n0012345\r", "MSH|0012345\rPID|\r\n0012345\r"),
        ("{% raw %}{{ number }}{% endraw %}", "{{ number }}", "{{ number }}"),
        ("{{ range(2) | list }}", "[0, 1]", [0, 1]),
    ],
)
def test_only_a_template_that_is_the_whole_text_has_a_type(
    rendered: Callable[..., Any], text: str, as_text: str, native: Any
):
    """A text that an expression gives stays text, also one that looks like a number."""
    expected = native if rendered.native else as_text  # type: ignore[attr-defined]
    assert rendered(text) == expected
    assert type(rendered(text)) is type(expected)


@pytest.mark.parametrize("text", ["{{ missing }}", "a {{ missing }}", "{{ rows[0].b }}"])
def test_a_name_that_is_not_there_is_an_error_in_every_mode(rendered: Callable[..., Any], text: str):
    """Airflow's native mode passes it on as an object."""
    with pytest.raises(jinja2.UndefinedError):
        rendered(text)


def test_the_dags_own_settings_of_jinja_hold(rendered: Callable[..., Any]):
    """Macros, filters, marks, undefined names and `finalize`."""
    options = {
        "user_defined_macros": {"twice": lambda one: [one, one]},
        "user_defined_filters": {"half": lambda one: one / 2},
        "jinja_environment_kwargs": {"variable_start_string": "<<", "variable_end_string": ">>"},
        "template_undefined": jinja2.Undefined,
    }
    assert rendered("<< twice(1) >>", **options) == ([1, 1] if rendered.native else "[1, 1]")  # type: ignore[attr-defined]
    assert rendered("<< 3 | half >>", **options) == (1.5 if rendered.native else "1.5")  # type: ignore[attr-defined]
    assert rendered("{{ number }} 7.50", **options) == "{{ number }} 7.50"
    assert rendered("<< missing >>", **options) == ""
    finalize = {"jinja_environment_kwargs": {"finalize": lambda one: "-" if one is None else one}}
    assert rendered("{{ nothing }}", **finalize) == "-"
    assert rendered("{{ rows }}", **finalize) == ([{"a": 1}] if rendered.native else "[{'a': 1}]")  # type: ignore[attr-defined]


def test_a_template_field_is_rendered_by_the_same_rule():
    """Of operators and of sensors, those too that have no connection."""
    with DAG("d", schedule=None, render_template_as_native_obj=True):
        search = RedoxFhirSearchOperator(
            task_id="s",
            resource_type="Patient",
            destination="007",
            output_path="/{{ rows[0].a }}",
            window=["2026-01-01", "{{ when }}"],
            cohort="{{ rows }}",
        )
        purge = RedoxPurgeOperator(task_id="p", of_run_id="1_0", of_task_id="{{ number }}")
        delivery = RedoxDeliverySensor(task_id="d", log_ids=["1E5", "{{ number }}"])
        inbox = RedoxInboxSensor(task_id="i", inbox_path="/x", name="0x10")
    for operator in (search, purge, delivery, inbox):
        operator.render_template_fields(context())
    assert (search.destination, search.output_path, search.cohort) == ("007", "/1", [{"a": 1}])
    assert search.window == ["2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)]
    assert (purge.of_run_id, purge.of_task_id, delivery.log_ids, inbox.name) == (
        "1_0",
        "0012345",
        ["1E5", "0012345"],
        "0x10",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("destination", "{{ nothing }}"),
        ("window", "{{ nothing }}"),
        ("window", ["2026-01-01", "{{ nothing }}"]),
        ("output_path", " {{ nothing }}"),
        ("cohort", Pulled(None)),
        ("environment", Pulled(None)),
    ],
)
def test_what_came_out_as_none_is_no_default(name: str, value: Any):
    """It would choose the connection's own hospital, the default root, or ask for everything; what is left out does."""
    with DAG("d", schedule=None, render_template_as_native_obj=True):
        operator = RedoxFhirSearchOperator(task_id="s", resource_type="Patient")
    setattr(operator, name, value)
    with pytest.raises(AirflowFailException, match=f"RedoxConfigError: {name}: is None"):
        operator.render_template_fields(context())


def unmapped(data: dict[str, Any], expand: Callable[[Any], Any]) -> Any:
    """What Airflow makes of a mapped task for one of its instances."""
    with DAG("d", schedule=None, render_template_as_native_obj=True):
        mapped = expand(RedoxFhirSearchOperator.partial(task_id="s", resource_type="Patient", output_path="/{{ number }}"))
    return mapped.unmap(data)


EVIL = "{{ 7 * 7 }}"
BY_XCOM = {"expand": lambda one: one.expand(search_params=Pulled([]), destination=Pulled([]))}
BY_XCOM["expand_kwargs"] = lambda one: one.expand_kwargs(Pulled([]))
BY_HAND = {"expand": lambda one: one.expand(search_params=[{}], destination=["a"])}
BY_HAND["expand_kwargs"] = lambda one: one.expand_kwargs([{}])


@pytest.mark.parametrize("way", ["expand", "expand_kwargs"])
def test_what_a_mapped_task_was_expanded_with_is_a_template_only_if_somebody_wrote_it(way: str):
    """In a template field and in an argument that is none; what `partial` has is rendered in any case."""
    for by, text in ((BY_XCOM, EVIL), (BY_HAND, "49")):
        operator = unmapped({"search_params": {"family": f"a{EVIL}", "x": [EVIL]}, "destination": f"a{EVIL}"}, by[way])
        here = context(ti=SimpleNamespace(map_index=0))
        operator.render_template_fields(here)
        given = operator.rendered(operator.search_params, here)
        assert given["family"] == f"a{text}"
        assert str(given["x"][0]) == text
        assert (operator.destination, operator.output_path) == (f"a{text}", "/0012345")


@pytest.mark.parametrize("way", ["expand", "expand_kwargs"])
@pytest.mark.parametrize("name", ["search_params", "destination"])
def test_a_mapped_task_that_was_expanded_with_none_is_refused(name: str, way: str):
    """By what an earlier task returned: it would ask for everybody, or another hospital."""
    operator = unmapped({"search_params": {"a": "b"}, "destination": "c", name: None}, BY_XCOM[way])
    with pytest.raises(AirflowFailException, match=f"RedoxConfigError: {name}: is None"):
        operator.render_template_fields(context(ti=SimpleNamespace(map_index=0)))


def test_what_expand_kwargs_leaves_out_or_somebody_wrote_is_the_default():
    """Rows of an earlier task need not name every argument, and a None in the DAG is its author's."""
    for data, by in (({"search_params": {"a": "b"}}, BY_XCOM), ({"destination": None}, BY_HAND)):
        operator = unmapped(data, by["expand_kwargs"])
        operator.render_template_fields(context(ti=SimpleNamespace(map_index=0)))
        assert operator.destination is None


def test_a_literal_in_a_native_dag_arrives_as_written(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """The reported ones, in a message."""
    odd = {"Dose": "7.50", "Name": "None", "Id": "1_000_234", "Phone": "+18085551212", "Code": "1E5"}
    with DAG("d", schedule=None, render_template_as_native_obj=True):
        operator = RedoxDataModelPostOperator(
            task_id="post",
            payload={"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}, "Patient": {}, "Odd": odd},
            results_path=output,
        )
    execute(operator)
    (entry,) = sandbox.ledger("/endpoint")
    assert json.loads(entry["body"])["Odd"] == odd


DAGS = '''
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.operators.fhir import RedoxFhirReadOperator

META = {"DataModel": "PatientAdmin", "EventType": "NewPatient"}
EVIL = "{{ conn.redox_default.password }}"


def message(name, **odd):
    return {"Meta": META, "Patient": {}, "Name": name, "Odd": odd}


def chain(dag_id, native):
    """Send what is written, what a template brings, and what mapped tasks were expanded with, in both ways."""
    with DAG(dag_id, schedule=None, render_template_as_native_obj=native) as dag:

        @task
        def given():
            return {"mrn": "0012345", "rows": [1, 2], "note": EVIL}

        @task
        def messages():
            return [message("by data", note=EVIL, dose="7.50")]

        @task
        def arguments():
            return [{"payload": message("by keywords", note=EVIL, dose="7.50")}]

        def post(task_id):
            return RedoxDataModelPostOperator.partial(task_id=task_id, results_path="{{ params.root }}/" + task_id)

        one = RedoxDataModelPostOperator(
            task_id="one",
            payload=message(
                "by template",
                dose="7.50",
                mrn="{{ ti.xcom_pull(task_ids='given')['mrn'] }}",
                rows="{{ ti.xcom_pull(task_ids='given')['rows'] }}",
                note="{{ ti.xcom_pull(task_ids='given')['note'] }}",
            ),
            results_path="{{ params.root }}/one",
        )
        written = post("written").expand(payload=[message("by hand", dose="7.50", dag="{{ dag.dag_id }}")])
        mapped = post("mapped").expand(payload=messages())
        kept = post("kept").expand_kwargs(arguments())
        read = RedoxFhirReadOperator.partial(
            task_id="read", resource_type="Patient", output_path="{{ params.root }}/read"
        ).expand(resource_id=["{{ params.patient }}"])
        given() >> one >> written >> mapped >> kept >> read
    return dag


DAGS = [chain("as_text", False), chain("native", True)]

if __name__ == "__main__":
    import sys

    from airflow.utils import db

    db.initdb()
    for dag in DAGS:
        dag.params.update({"root": sys.argv[1] + "/" + dag.dag_id, "patient": sys.argv[2]})
        assert dag.test().state == "success"
'''


@pytest.mark.airflow_run
def test_a_run_sends_what_was_written_and_reads_no_data_as_a_template(sandbox: Sandbox, tmp_path: Path):
    """In both modes, by template, `expand` and `expand_kwargs`: a template in data would read the private key."""
    (tmp_path / "chains.py").write_text(DAGS)
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_CONN_REDOX_DEFAULT": json.dumps(sandbox.with_extra(cache_backend="memory")),
    }
    patient = sandbox.patients()[0]["id"]
    done = subprocess.run(
        [sys.executable, "chains.py", f"file://{tmp_path}/out", patient],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    sent = [json.loads(entry["body"]) for entry in sandbox.ledger("/endpoint")]
    evil = "{{ conn.redox_default.password }}"
    by_template = {"dose": "7.50", "mrn": "0012345", "note": evil}
    assert [(one["Name"], one["Odd"]) for one in sent] == [
        pair
        for dag_id, rows in (("as_text", "[1, 2]"), ("native", [1, 2]))
        for pair in (
            ("by template", {**by_template, "rows": rows}),
            ("by hand", {"dose": "7.50", "dag": dag_id}),
            ("by data", {"dose": "7.50", "note": evil}),
            ("by keywords", {"dose": "7.50", "note": evil}),
        )
    ]
