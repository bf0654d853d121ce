"""Every Python snippet of the pages is a file of dags/, or runs here against the sandbox."""

from __future__ import annotations

import asyncio
import configparser
import importlib.metadata
import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.protocol.destinations import parse_destinations
from tests.docs.pages import DOCS, ROOT, blocks, code_words, pages, rows
from tests.support.sandbox import Sandbox

AIRFLOW_3 = int(importlib.metadata.version("apache-airflow").partition(".")[0]) >= 3
BY_PYTEST = "testing.md"
"""The page whose snippets are the files of a repository: pytest runs them, in a process of its own."""


BY_AIRFLOW_3 = "inbox.md"
"""The page whose snippets have asset watchers, which Airflow 2 has not."""


def runnable() -> list[Path]:
    passed_over = {BY_PYTEST} | (set() if AIRFLOW_3 else {BY_AIRFLOW_3})
    return [page for page in pages() if blocks(page, "python") and page.name not in passed_over]


def run(page: Path) -> dict[str, Any]:
    """Run the snippets of a page, one after the other, in one namespace."""
    names: dict[str, Any] = {"__name__": "snippets"}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)
    return names


@pytest.mark.parametrize("page", runnable(), ids=lambda page: page.name)
def test_the_snippets_of_a_page_run(page: Path, redox_connection: Sandbox):
    """What a page shows runs as it stands, from its top to its end."""
    run(page)


def test_included_files_are_example_dags():
    """A literalinclude shows a file of dags/, which other tests run."""
    included = [
        DOCS / name
        for page in pages()
        for name in re.findall(r"^```\{literalinclude\} (\S+)", page.read_text(), re.MULTILINE)
    ]
    assert included
    assert all(path.is_file() and path.resolve().parent == ROOT / "dags" for path in included)


def test_python_stands_in_blocks_that_are_found():
    """No snippet escapes: Python is always fenced as `python`, at the left margin."""
    for page in pages():
        assert not re.search(r"^([ \t]+```|~~~|```(py|python3|pycon|ipython)\s)", page.read_text(), re.MULTILINE), page.name


def parsed_as_json(text: str) -> None:
    """One value, or one on each line, as files of results have them."""
    try:
        json.loads(text)
    except json.JSONDecodeError:
        for line in text.splitlines():
            json.loads(line)


def parsed_by_bash(text: str) -> None:
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def parsed_as_ini(text: str) -> None:
    configparser.ConfigParser(interpolation=None).read_string(text)


READERS: dict[str, Callable[[str], Any]] = {
    "json": parsed_as_json,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "toml": tomllib.loads,
    "ini": parsed_as_ini,
    "bash": parsed_by_bash,
    "sh": parsed_by_bash,
}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_what_is_not_python_is_well_formed(page: Path):
    """JSON, YAML, TOML, settings and commands can be pasted as they stand."""
    for language, read in READERS.items():
        for block in blocks(page, language):
            read(block)


def test_the_next_task_reads_the_files_of_a_manifest(redox_connection: Sandbox, tmp_path: Path):
    """The page on searching: its downstream task counts every patient that its search found."""
    names = run(DOCS / "searching.md")
    operator = names["diabetics"]
    operator.output_path = f"file://{tmp_path}"
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id=operator.task_id, map_index=-1)
    manifest = operator.execute({"ti": ti})
    counts = names["count_by_gender"].function(manifest)
    patients = next(entry["count"] for entry in manifest["output"] if entry["type"] == "Patient")
    assert sum(counts.values()) == patients > 10


@pytest.mark.filterwarnings("ignore:The .airflow.utils.operator_helpers")  # of Airflow's HttpOperator
def test_what_replaces_the_old_ways_works(redox_connection: Sandbox, tmp_path: Path):
    """The page for those who come from elsewhere: its search, its HttpOperator and its writeback do what they say."""
    blocks_ = blocks(DOCS / "migrating.md", "python")
    first, second, third = [_names(block) for block in blocks_]
    for operator in (first["patients"], third["vitals"]):
        operator.output_path = f"file://{tmp_path}"
    context = {
        name: {"ti": SimpleNamespace(dag_id="d", run_id="r", task_id=name, map_index=-1)} for name in ("patients", "vitals")
    }
    assert first["families"].function(first["patients"].execute(context["patients"])) == 1
    assert second["count"].execute({}) > 10
    assert third["vitals"].execute(context["vitals"])["status"] == 200
    assert redox_connection.messages()[0]["operation"].startswith("Observation")


def _names(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "snippets"}
    exec(compile(block, "snippet", "exec"), names)
    return names


def test_the_tasks_on_the_page_on_taskflow_run(redox_connection: Sandbox, tmp_path: Path):
    """The page on TaskFlow: its search and its two tasks do what they say."""
    names = run(DOCS / "taskflow.md")
    names["patients"].output_path = f"file://{tmp_path}"
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="patients", map_index=-1)
    assert names["files"].function(names["patients"].execute({"ti": ti})) == 1
    assert names["conditions_of"].function("81c2f5eb-f99f-40c4-b504-59483e6148d7") > 0
    assert names["dag"].get_task("conditions").upstream_task_ids == {"codes"}


def test_exact_values_are_read_as_on_the_page(redox_connection: Sandbox, tmp_path: Path):
    """The page on searching: its decoder keeps every digit of a value."""
    lines = [f'{{"resourceType": "Observation", "valueQuantity": {{"value": {value}}}}}' for value in ("7.10", "12.00", "9")]
    (tmp_path / "o.ndjson").write_text("\n".join(lines))
    manifest = {"output": [{"type": "Observation", "url": f"file://{tmp_path}/o.ndjson", "count": 3}]}
    assert run(DOCS / "searching.md")["highest_value"].function(manifest) == "12.00"


def test_the_manifest_on_the_page_has_the_keys_of_a_real_one(redox_connection: Sandbox, tmp_path: Path):
    """The page on searching: what it shows of a manifest is what a search returns, key for key."""
    operator = run(DOCS / "searching.md")["diabetics"]
    operator.output_path = f"file://{tmp_path}"
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id=operator.task_id, map_index=-1)
    manifest = operator.execute({"ti": ti})
    (shown,) = [json.loads(block) for block in blocks(DOCS / "searching.md", "json")]
    assert list(shown) == list(manifest)
    assert list(shown["extension"]) == list(manifest["extension"])
    assert [list(entry) for entry in shown["output"]] == [list(entry) for entry in manifest["output"]]


def test_the_summary_on_the_page_has_the_keys_of_a_real_one(redox_connection: Sandbox, tmp_path: Path):
    """The page on sending: what it shows of a summary is what a post returns, key for key."""
    from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator

    message = {"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}, "Patient": {"Identifiers": []}}
    operator = RedoxDataModelPostOperator(task_id="new_patient", payload=message, results_path=f"file://{tmp_path}")
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id=operator.task_id, map_index=-1)
    (shown,) = [json.loads(block) for block in blocks(DOCS / "sending.md", "json")]
    assert list(shown) == list(operator.execute({"ti": ti}))


def test_the_writeback_on_the_page_is_written(redox_connection: Sandbox, tmp_path: Path):
    """The pages on writebacks and on other requests: what they send is taken."""
    for operator in (run(DOCS / "writing-back.md")["write"], run(DOCS / "requests.md")["count"]):
        operator.output_path = f"file://{tmp_path}"
        ti = SimpleNamespace(dag_id="d", run_id="r", task_id=operator.task_id, map_index=-1)
        assert operator.execute({"ti": ti, "params": {"patient": "81c2f5eb-f99f-40c4-b504-59483e6148d7"}})["status"] == 200
    assert redox_connection.stats()["messages"] == 1


def test_the_trigger_ends_when_the_log_is_decided(redox_connection: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """The page on hooks: its trigger waits for the log of a message and tells how it ended."""
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_PLATFORM", redox_connection.connection_json)
    redox_connection.settings(delivery_seconds=0.2)
    names = run(DOCS / "hooks.md")

    async def first_event() -> Any:
        trigger = names["LogTrigger"](names["accepted"].log_ids[0], pause=0.05)
        return await anext(aiter(trigger.run()))

    assert asyncio.run(first_event()).payload == "succeeded"


def test_the_page_on_testing_holds(pytester: pytest.Pytester):
    """The page on testing: its files, put where their first lines say, are a repository whose tests pass."""
    for block in [*blocks(DOCS / BY_PYTEST, "toml"), *blocks(DOCS / BY_PYTEST, "python")]:
        head, _, content = block.partition("\n")
        name, _, more = head.removeprefix("# ").partition(", ")
        path = pytester.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text((path.read_text() if more else "") + content)
    assert sorted(str(path.relative_to(pytester.path)) for path in pytester.path.rglob("*.*")) == [
        "dags/admissions.py",
        "pyproject.toml",
        "tests/conftest.py",
        "tests/test_admissions.py",
        "tests/test_faults.py",
        "tests/test_two.py",
    ]
    pytester.runpytest_subprocess().assert_outcomes(passed=6)


def test_the_page_on_testing_names_all_that_the_sandbox_has():
    """The table of the page has every public name of the fixture's object, and no other."""
    from airflow_provider_redox.testing import RedoxSandbox

    shown = {name.partition("(")[0] for row in rows(BY_PYTEST[:-3], "On `redox_sandbox`") for name in code_words(row[0])}
    assert shown == {name for name in dir(RedoxSandbox) if name[0] != "_"} - {"start", "stop"} | {"connection"}


def test_the_connection_in_json_works(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """The page on the connection: its JSON, with a real key, is a connection that the hook takes."""
    described, connection, _ = [json.loads(block) for block in blocks(DOCS / "connection.md", "json")]
    connection["password"] = sandbox.connection["password"]
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(connection))
    settings = RedoxHook().client.settings
    assert (settings.base_url, settings.kid) == ("https://api.redoxengine.com", "key-2026-01")
    assert parse_destinations(described)["general"].id_for("Scheduling") == described["general"]["ids"]["Scheduling"]


def test_the_connection_for_the_platform_api_works(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The page on the connection: two connections, of which the usual one names the other, are what a sensor waits by."""
    from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
    from airflow_provider_redox.sensors.delivery import RedoxDeliverySensor

    *_, platform = [json.loads(block) for block in blocks(DOCS / "connection.md", "json")]
    ids = {name: platform["extra"][name] for name in ("organization_id", "environment_id")}
    usual = json.loads(sandbox.connection_json)
    assert {name: usual["extra"].pop(name) for name in ids} == ids
    signer = {name: usual["extra"][name] for name in ("client_id", "kid")}
    platform |= {name: usual[name] for name in ("host", "port", "password")} | {"extra": platform["extra"] | signer}
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(usual))
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_PLATFORM", json.dumps(platform))
    sandbox.settings(delivery_seconds=0)

    message = {"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}, "Patient": {"Identifiers": []}}
    where = {"dag_id": "d", "run_id": "r", "map_index": -1, "xcom_push": lambda **_: None}
    post = RedoxDataModelPostOperator(task_id="post", payload=message, results_path=f"file://{tmp_path}")
    sent = post.execute({"ti": SimpleNamespace(**where, task_id="post")})
    waits = RedoxDeliverySensor(task_id="delivered", results_path=sent)
    with pytest.raises(AirflowFailException, match=r"extra\.organization_id: missing in the connection redox_default"):
        waits.poke({"ti": SimpleNamespace(**where, task_id="delivered")})
    monkeypatch.setenv(
        "AIRFLOW_CONN_REDOX_DEFAULT", json.dumps({**usual, "extra": usual["extra"] | {"platform_conn_id": "redox_platform"}})
    )
    done = waits.poke({"ti": SimpleNamespace(**where, task_id="delivered")})
    assert (done.is_done, done.xcom_value["delivered"]) == (True, 1)


def test_the_connection_as_uri_works(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """The page on the connection: its URI, with a real key, is a connection that the hook takes."""
    (uri,) = [block.strip() for block in blocks(DOCS / "connection.md", "text")]
    key = quote(sandbox.connection["password"], safe="")
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", uri.replace("PERCENT_ENCODED_KEY", key))
    settings = RedoxHook().client.settings
    assert (settings.base_url, settings.kid) == ("https://api.redoxengine.com", "key-2026-01")
    assert (settings.destination, settings.environment) == ("general-hospital", "Development")


def test_the_connection_as_uri_with_extra_works(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """The page on the connection: objects travel in `__extra__`, percent-encoded."""
    key, extra = (quote(part, safe="") for part in (sandbox.connection["password"], json.dumps(sandbox.connection["extra"])))
    host = sandbox.url.removeprefix("http://")
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", f"redox://:{key}@{host}/http?__extra__={extra}")
    assert [one.name for one in RedoxHook().destinations()] == ["general", "lakeside"]


def test_the_extra_on_the_command_line_works(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The page on the connection: the extra of `airflow connections add`, with a real file, is one that the hook takes."""
    (command,) = [block for block in blocks(DOCS / "connection.md", "bash") if "connections add" in block]
    (told,) = re.findall(r"--conn-extra '(.*?)'", command, re.DOTALL)
    (tmp_path / "redox.pem").write_text(sandbox.connection["password"])
    extra = {**json.loads(told), "key_file": str(tmp_path / "redox.pem")}
    connection = {"conn_type": "redox", "host": "https://api.redoxengine.com", "port": 443, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(connection))
    assert RedoxHook().client.settings.destination == "general-hospital"
