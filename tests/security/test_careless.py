"""A careless author, and texts that came from elsewhere: what they hold is data, and stays where it was put."""

from __future__ import annotations

import ast
import json
import multiprocessing
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import airflow_provider_redox
from airflow_provider_redox.client.driver import real_environment
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.operators.fhir import RedoxFhirReadOperator
from tests.client.drivers import connection_to
from tests.security.conftest import Ended
from tests.security.ways import MESSAGE
from tests.security.witness import chain, holding
from tests.support.wire import Wire, answers, http

Go = Callable[..., Ended]
PACKAGE = Path(airflow_provider_redox.__file__).parent
JINJA = "{{ 7919 * 7907 }}{% raw %}"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a connection to a server into the environment."""

    def put(wire: Wire, **extra: Any) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(connection_to(wire.url, **extra)))

    return put


def context(**more: Any) -> dict[str, Any]:
    ti = SimpleNamespace(dag_id="dag", run_id="run", task_id="it", map_index=-1, try_number=1, max_tries=0)
    return {"ti": ti, **more}


def test_what_a_template_gives_is_no_template(tmp_path: Path, connect: Callable[..., None]) -> None:
    """A value that a template brings in, from params or from a file, is sent as it is, braces and all."""
    with Wire(answers(http(b'{"Meta": {"Logs": [{"ID": "log-1"}]}}'))) as wire:
        connect(wire)
        payload = {**MESSAGE, "Patient": {"Note": "{{ note }}"}}
        operator = RedoxDataModelPostOperator(task_id="it", payload=payload, results_path=f"file://{tmp_path}")
        operator.execute(context(note=JINJA))
        sent = json.loads(wire.requests[-1].partition(b"\r\n\r\n")[2])
    assert sent["Patient"] == {"Note": JINJA}


def test_what_a_connection_says_is_no_template(tmp_path: Path, connect: Callable[..., None]) -> None:
    """Headers, source and Meta of the connection go out as they stand there."""
    with Wire(answers(http(b'{"Meta": {"Logs": [{"ID": "log-1"}]}}'))) as wire:
        connect(wire, headers={"x-note": JINJA}, source_id=JINJA, meta={"Note": JINJA})
        operator = RedoxDataModelPostOperator(task_id="it", payload=MESSAGE, results_path=f"file://{tmp_path}")
        operator.execute(context())
        head, _, body = wire.requests[-1].partition(b"\r\n\r\n")
    assert f"x-note: {JINJA}".encode() in head
    assert json.loads(body)["Meta"]["Note"] == JINJA
    assert json.loads(body)["Meta"]["Source"] == {"ID": JINJA}


def test_what_a_server_says_is_no_template(tmp_path: Path, connect: Callable[..., None]) -> None:
    """A resource is written as it came, and no part of a manifest is rendered from it."""
    resource = {"resourceType": "Patient", "id": "1", "meta": {"versionId": JINJA}, "name": [{"family": JINJA}]}
    with Wire(answers(http(json.dumps(resource).encode(), Redox_Trace_Id=JINJA, Date=JINJA))) as wire:
        connect(wire)
        options: dict[str, Any] = {"task_id": "it", "output_path": f"file://{tmp_path}"}
        manifest = RedoxFhirReadOperator(resource_type="Patient", resource_id="1", **options).execute(context())
    file = Path(manifest["output"][0]["url"].removeprefix("file://"))
    assert json.loads(file.read_text()) == resource
    assert not re.search(r"7919 \* 7907|62615533", json.dumps(manifest))


@pytest.mark.parametrize("field", ["destination", "environment"])
def test_jinja_in_a_name_is_refused(field: str, connect: Callable[..., None]) -> None:
    """A template where a name belongs, in the connection, is neither rendered nor sent."""
    with Wire() as wire:
        connect(wire, **{field: JINJA})
        with pytest.raises(RedoxConfigError):
            RedoxHook().fhir_read("Patient", "1")
        assert wire.requests == []


HALF = "Featherstonehaugh\ud83d"


@pytest.mark.parametrize(
    "ask",
    [
        lambda redox: redox.request("GET", "x", params={"a": HALF}),
        lambda redox: redox.request("GET", "x", params={HALF: "a"}),
        lambda redox: redox.request("GET", "x", params={"a": [HALF]}),
        lambda redox: redox.request("POST", "x", data=HALF),
        lambda redox: redox.request("POST", "x", form={"a": HALF}),
        lambda redox: redox.request("POST", "x", json={"a": HALF}),
        lambda redox: list(redox.fhir_search("Patient", {"family": HALF})),
        lambda redox: redox.get_log(HALF),
        lambda redox: redox.post_data_model({**MESSAGE, "Patient": HALF}),
    ],
)
def test_half_a_character_is_refused_unseen(ask: Callable[[RedoxHook], Any], connect: Callable[..., None]) -> None:
    """A text that no encoding knows is an argument's error, before anything is sent; Python's own would hold the text."""
    with Wire() as wire:
        connect(wire, organization_id="o-1")
        with pytest.raises(RedoxConfigError) as caught:
            ask(RedoxHook())
        assert wire.requests == []
    assert holding(chain(caught.value), "Featherstonehaugh") == []


def _numbers(count: int) -> list[str]:
    return [real_environment().new_jti() for _ in range(count)]


def test_no_number_is_used_twice_across_processes() -> None:
    """Ten thousand assertions, of workers that were forked from one process too, have as many numbers of 192 bits."""
    drawn = _numbers(1000)
    with multiprocessing.get_context("fork").Pool(3) as workers:
        drawn += [one for found in workers.map(_numbers, [1000] * 9) for one in found]
    assert len(set(drawn)) == len(drawn) == 10_000
    assert {len(one) for one in drawn} == {32}
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", one) for one in drawn)


FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "subprocess", "xml", "code", "ctypes"}
ALLOWED = {"testing.py": {"subprocess"}}
"""What starts the sandbox for a test. Nothing that runs in a task may import it; `tests/test_architecture.py` holds that."""
FORBIDDEN_CALLS = {"eval", "exec", "compile", "os.system", "os.popen"}


def test_nothing_in_the_package_runs_what_it_reads() -> None:
    """No module unpickles, evaluates, loads YAML or XML, or starts a process, but what starts a sandbox for tests."""
    for path in sorted(PACKAGE.rglob("*.py")):
        forbidden = FORBIDDEN_MODULES - ALLOWED.get(str(path.relative_to(PACKAGE)), set())
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.partition(".")[0] for name in names} & forbidden, path
            assert not (isinstance(node, ast.Call) and ast.unparse(node.func) in FORBIDDEN_CALLS), path


def test_certificates_cannot_be_left_unchecked() -> None:
    """No code of ours turns the check of certificates or of host names off."""
    for path in sorted(PACKAGE.rglob("*.py")):
        assert not re.search(r"CERT_NONE|check_hostname|verify=False|ssl=False|_create_unverified", path.read_text()), path


def test_a_key_file_is_read_to_a_limit(
    tmp_path: Path, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may name a file on the worker cannot have it read without end, nor learn what it holds."""
    for place in ("/dev/zero", os.fspath(tmp_path), "/etc/hostname", f"{tmp_path}/fifo"):
        if place.endswith("fifo"):
            os.mkfifo(place)
        connection = connection_to("https://127.0.0.1:9", key_file=place)
        connection.pop("password")
        monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(connection))
        works, words = RedoxHook().test_connection()
        assert not works
        assert "extra.key_file" in words
        assert Path("/etc/hostname").read_text().strip() not in words
