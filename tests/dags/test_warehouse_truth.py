"""What the examples load into tables, and answer from them, is what a test computes itself, of what hospitals may send."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_redox.protocol.pages import read_line
from airflow_provider_redox.storage.shapes import Shape
from tests.support.examples import AIRFLOW_3

from .test_warehouse import DAGS, postgres  # noqa: F401  (a fixture)

PULLED = "2026-01-05T02:00:00.000Z"


def condition(name: str, updated: str | None, more: str = "", patient: str = "p1") -> bytes:
    """Write a Condition as a hospital might, digits and all."""
    meta = f'"meta":{{"lastUpdated":"{updated}"}},' if updated else ""
    return f'{{"resourceType":"Condition","id":"{name}",{meta}"subject":{{"reference":"Patient/{patient}"}}{more}}}'.encode()


ACTIVE = ',"clinicalStatus":{"coding":[{"code":"active"}]}'
RESOLVED = ',"clinicalStatus":{"coding":[{"code":"resolved"}]}'
DIGITS = ',"onsetAge":{"value":1.10},"a":1e2,"b":0.10000000000000000000001,"note":[{"text":",\\"resource\\":{ü\\\\"}]'

SENT = {
    "general": [
        condition("c1", "2026-01-01T00:00:00Z", ACTIVE + DIGITS),
        condition("c2", "2026-01-02T00:00:00Z", DIGITS, "p2"),  # without a clinicalStatus, which FHIR allows
        condition("c3", "2026-01-03T00:00:00Z", RESOLVED, "p3"),
        condition("c3", "2026-01-02T00:00:00Z", ACTIVE, "p3"),  # an older version that comes later
        condition("c4", None, ACTIVE, "p1"),  # a second one of the same patient
    ],
    "lakeside": [condition("c1", "2026-01-01T00:00:00Z", ACTIVE, "p1")],  # another hospital's c1, and p1
}
NEWER = {"general": [condition("c1", "2026-01-04T00:00:00Z", RESOLVED), condition("c4", None, RESOLVED, "p1")]}


def lines_of(sent: dict[str, list[bytes]], pulled: str) -> Iterator[bytes]:
    for destination, resources in sent.items():
        shape = Shape("envelope", destination, "Production", "run")
        found = [read_line(resource) for resource in resources]
        yield from shape.lines(found, search="0", pulled_at=lambda: pulled, repeats=set())


def truth(*loads: dict[str, list[bytes]]) -> tuple[dict[tuple[str, str], bytes], dict[str, int]]:
    """Compute the newest version of each resource of each hospital, and the patients by status."""
    newest: dict[tuple[str, str], tuple[str, bytes]] = {}
    for load in loads:
        for destination, resources in load.items():
            for line in resources:
                parsed = json.loads(line)
                key, updated = (destination, parsed["id"]), parsed.get("meta", {}).get("lastUpdated", "")
                if key not in newest or updated >= newest[key][0]:
                    newest[key] = (updated, line)
    patients: dict[str, set[tuple[str, str]]] = {}
    for (destination, _), (_, line) in newest.items():
        parsed = json.loads(line)
        status = parsed.get("clinicalStatus", {"coding": [{"code": "not stated"}]})["coding"][0]["code"]
        patients.setdefault(status, set()).add((destination, parsed["subject"]["reference"]))
    return {key: line for key, (_, line) in newest.items()}, {status: len(who) for status, who in patients.items()}


@pytest.mark.parametrize("loads", [[SENT], [SENT, SENT], [SENT, NEWER], [SENT, NEWER, NEWER]], ids=len)
def test_duckdb_holds_the_truth(loads: list[dict[str, list[bytes]]], tmp_path: Path) -> None:
    """The newest version of each, to the digit, however often it is loaded; and the patients by status, stated or not."""
    duckdb = pytest.importorskip("duckdb")
    dag: dict[str, Any] = runpy.run_path(str(DAGS / "redox_warehouse_duckdb.py"))
    with duckdb.connect() as warehouse:
        warehouse.execute(dag["TABLE"])
        for number, load in enumerate(loads):
            file = tmp_path / f"{number}.ndjson"
            file.write_bytes(b"\n".join(lines_of(load, f"2026-01-0{5 + number}T02:00:00.000Z")) + b"\n")
            warehouse.execute(dag["LOAD"], [[str(file)]])
        rows = warehouse.execute("SELECT destination, id, resource FROM fhir").fetchall()
        answered = dict(warehouse.execute(dag["QUERY"]).fetchall())
    resources, patients = truth(*loads)
    assert {(destination, name): text.encode() for destination, name, text in rows} == resources
    assert answered == patients
    json.dumps(answered, sort_keys=True)  # as XCom does; a key that is None would not sort


@pytest.mark.slow
def test_postgres_holds_the_truth(postgres: dict[str, Any]) -> None:  # noqa: F811
    """The same in PostgreSQL, whose jsonb keeps 1.10 and writes 1e2 as 100."""
    import psycopg

    dag: dict[str, Any] = runpy.run_path(str(DAGS / "redox_warehouse_postgres.py"))
    with psycopg.connect(host="127.0.0.1", port=postgres["port"], user="redox", dbname="postgres") as warehouse:
        warehouse.execute(dag["TABLE"])
        for number, load in enumerate((SENT, SENT, NEWER)):
            cursor = warehouse.cursor()
            cursor.execute("CREATE TEMPORARY TABLE incoming (line jsonb)")
            with cursor.copy("COPY incoming FROM STDIN") as copy:
                for line in lines_of(load, f"2026-01-0{5 + number}T02:00:00.000Z"):
                    copy.write_row([line.decode()])
            cursor.execute(dag["LOAD"])
            cursor.execute("DROP TABLE incoming")
        rows = warehouse.execute("SELECT destination, id, resource::text FROM fhir").fetchall()
        answered = dict(warehouse.execute(dag["QUERY"]).fetchall())
    resources, patients = truth(SENT, NEWER)
    assert {(destination, name): json.loads(text) for destination, name, text in rows} == {
        key: json.loads(line) for key, line in resources.items()
    }
    assert any('"value": 1.10' in text for _, _, text in rows)
    assert answered == patients


@pytest.mark.skipif(not AIRFLOW_3, reason="asset watchers need Airflow 3")
def test_the_inbox_example_keeps_each_value_as_it_was_sent() -> None:
    """1.10 is not 1.1, and a result need not be a number; what is no text is no result."""
    dag: dict[str, Any] = runpy.run_path(str(DAGS / "redox_inbox_results.py"))
    values = ["1.10", "<0.5", "Positive", "1E5", ""]
    results = [{"Code": str(number), "Value": value, "Units": "%"} for number, value in enumerate(values)]
    found = list(dag["rows"]("log", {"Orders": [{"ID": "o", "Results": results}]}))
    assert found == [("log", "o", number, str(number), value, "%") for number, value in enumerate(values)]
    for spoilt in (1.1, None, {}):
        with pytest.raises(TypeError):
            list(dag["rows"]("log", {"Orders": [{"ID": "o", "Results": [{"Code": "1", "Value": spoilt}]}]}))
