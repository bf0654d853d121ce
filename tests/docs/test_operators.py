"""The page of all operators and sensors is whole, and the tables of parameters are the signatures."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_redox.downstream import read_messages, read_resources, read_searches
from airflow_provider_redox.get_provider_info import get_provider_info
from airflow_provider_redox.operators.base import RedoxOperator
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator, RedoxDataModelQueryOperator
from airflow_provider_redox.operators.delivering import DeliveringOperator
from airflow_provider_redox.operators.documents import RedoxDocumentDownloadOperator
from airflow_provider_redox.operators.fhir import RedoxFhirReadOperator, RedoxFhirWritebackOperator
from airflow_provider_redox.operators.purge import RedoxPurgeOperator
from airflow_provider_redox.operators.request import RedoxRequestOperator
from airflow_provider_redox.operators.upload import RedoxUploadOperator
from airflow_provider_redox.sensors.base import RedoxSensor
from airflow_provider_redox.sensors.delivery import RedoxDeliverySensor
from airflow_provider_redox.sensors.fhir import RedoxFhirSearchSensor
from airflow_provider_redox.sensors.inbox import RedoxInboxSensor
from airflow_provider_redox.triggers.inbox import RedoxInboxTrigger
from tests.docs.pages import DOCS, ROOT, blocks, code_words, rows, text
from tests.docs.test_snippets import run
from tests.docs.test_tables import anchors
from tests.inbox.boxes import Box
from tests.support.sandbox import Sandbox

KINDS = {"operators": "Operators", "sensors": "Sensors", "triggers": "Triggers"}


class Entry(NamedTuple):
    """What the page says of a class."""

    what: str
    how_to: str
    example: str

    @property
    def is_made_by_a_sensor(self) -> bool:
        return "You do not create it yourself" in self.what


ENTRY = re.compile(r"^\{py:class\}`~([\w.]+)`\n: (.+)\n  \*How-to:\* (.+)\. \*Example:\* (.+)\.$", re.MULTILINE)


def public(kind: str) -> set[str]:
    """The paths of the public classes of the provider's modules, as a DAG imports them."""
    found = set()
    for module in (importlib.import_module(name) for one in get_provider_info()[kind] for name in one["python-modules"]):
        classes = [(name, one) for name, one in vars(module).items() if name.startswith("Redox") and inspect.isclass(one)]
        found |= {f"{module.__name__}.{name}" for name, one in classes if one.__module__.startswith(module.__name__)}
    return found


def described(kind: str) -> dict[str, Entry]:
    """The entries of a section of the page, by the path of their class, which is a link to its reference."""
    section = text("operators").partition(f"\n## {KINDS[kind]}\n")[2].partition("\n## ")[0]
    assert len(ENTRY.findall(section)) == section.count("{py:class}")
    return {path: Entry(*rest) for path, *rest in ENTRY.findall(section)}


ALL = [(kind, path) for kind in KINDS for path in sorted(public(kind))]


def shown(target: str) -> str:
    """All that a page says, the example DAGs that it shows included."""
    page = DOCS / target.partition("#")[0]
    included = re.findall(r"^```\{literalinclude\} (\S+)", page.read_text(), re.MULTILINE)
    return "\n".join([page.read_text(), *((DOCS / name).read_text() for name in included)])


@pytest.mark.parametrize("kind", KINDS)
def test_every_class_is_on_the_page(kind: str):
    """Whatever a DAG can import from the modules that Airflow is told of has an entry, and nothing else has."""
    assert set(described(kind)) == public(kind) != set()


@pytest.mark.parametrize(("kind", "path"), ALL)
def test_a_class_leads_to_its_reference(kind: str, path: str):
    """Its name is a link, which would lead nowhere if no page documented the class."""
    assert path in described(kind)
    assert re.search(rf"^\.\. autoclass:: {re.escape(path)}$", text("reference") + text("operators"), re.MULTILINE)


@pytest.mark.parametrize(("kind", "path"), ALL)
def test_a_class_leads_to_where_it_is_explained(kind: str, path: str):
    """Each of its links names a heading that exists, and the first page speaks of the class, if it is one to be used."""
    entry = described(kind)[path]
    targets = re.findall(r"\]\(([^)]+)\)", entry.how_to)
    assert targets
    for target in targets:
        name, _, anchor = target.partition("#")
        assert not anchor or anchor in anchors(DOCS / name), target
    assert path.rpartition(".")[2] in shown(targets[0]) or entry.is_made_by_a_sensor


@pytest.mark.parametrize(("kind", "path"), ALL)
def test_a_class_has_an_example(kind: str, path: str):
    """A DAG of dags/ that uses it, or the sensor that makes it; or a snippet on the page that explains it."""
    entry, name = described(kind)[path], path.rpartition(".")[2]
    if entry.example == "on that page":
        (page,) = set(re.findall(r"\]\(([\w-]+\.md)[^)]*\)", entry.how_to))
        assert any(re.search(rf"\b{name}\(", block) for block in blocks(DOCS / page, "python"))
        return
    examples = [ROOT / file for file in code_words(entry.example)]
    assert examples
    used = name.replace("Trigger", "Sensor") if entry.is_made_by_a_sensor else name
    assert all(file.parent == ROOT / "dags" and f"{used}(" in file.read_text() for file in examples)


# Parameters

TABLES: dict[str, list[tuple[type, ...]]] = {
    "operators": [(RedoxOperator,), (RedoxSensor,)],
    "sending": [(RedoxDataModelPostOperator, DeliveringOperator)],
    "queries": [(RedoxDataModelQueryOperator,)],
    "writing-back": [(RedoxFhirWritebackOperator,)],
    "uploads": [(RedoxUploadOperator,)],
    "requests": [(RedoxRequestOperator,)],
    "reading": [(RedoxFhirReadOperator,)],
    "documents": [(RedoxDocumentDownloadOperator,)],
    "retention": [(RedoxPurgeOperator,)],
    "delivery": [(RedoxDeliverySensor,), (RedoxFhirSearchSensor,)],
}
"""Whose parameters the tables of a page list, table for table, in the order of the signatures."""

IN_WORDS: dict[Any, str] = {timedelta(days=1): "a day", 100 * 1024 * 1024: "100 MB"}


def tables(page: str) -> Iterator[list[list[str]]]:
    """Give the tables of parameters of a page."""
    for table in re.findall(r"^\| Parameter \|.*\n\|[-| ]+\n((?:\|.*\n)+)", text(page), re.MULTILINE):
        yield [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


def own(*classes: type) -> dict[str, inspect.Parameter]:
    """The parameters that these classes add to those of their bases."""
    all_of_them = {name: one for cls in classes for name, one in inspect.signature(cls.__init__).parameters.items()}
    return {name: one for name, one in all_of_them.items() if name not in ("self", "kwargs")}


def said(name: str, default: Any) -> str | None:
    """How a table says a default; None where it may say it in words, such as `the connection's`."""
    if default is inspect.Parameter.empty:
        return "required"
    if name == "deferrable":  # read from Airflow's configuration
        return "`[operators] default_deferrable`"
    if default is None:
        return None
    return IN_WORDS.get(default) or f"`{json.dumps(default) if isinstance(default, str) else repr(default)}`"


@pytest.mark.parametrize("page", TABLES)
def test_a_table_of_parameters_is_the_signature(page: str):
    """Each parameter has a row, in the signature's order, with its default; and no other has."""
    found = list(tables(page))
    assert len(found) == len(TABLES[page])
    for table, classes in zip(found, TABLES[page], strict=True):
        parameters = own(*classes)
        assert [code_words(row[0])[0] for row in table] == list(parameters)
        for (name, one), row in zip(parameters.items(), table, strict=True):
            expected = said(name, one.default)
            assert (row[2] == expected) if expected else row[2] not in ("", "required"), (name, row[2])


def test_the_inbox_sensor_takes_what_the_trigger_takes_except_where_the_page_says_so():
    """The table of the trigger's arguments is the sensor's too: with `poke_interval` and `deferrable`, without `start`."""
    trigger, sensor = own(RedoxInboxTrigger), own(RedoxInboxSensor)
    assert {*trigger, "poke_interval", "deferrable"} - {"poll_interval", "start"} == set(sensor)
    (batch,) = [row[1] for row in rows("inbox", "Argument") if row[0] == "`max_messages`"]
    assert batch.endswith(f"by default {trigger['max_messages'].default}, for a sensor {sensor['max_messages'].default:,}.")
    assert trigger["poll_interval"].default == sensor["poke_interval"].default == 5


def test_the_front_page_links_every_page():
    """Nobody has to guess which page is about what: each is named on the front page, not in the sidebar alone."""
    linked = set(re.findall(r"\]\(([\w-]+)\.md", text("index")))
    assert linked == {page.stem for page in Path(DOCS).glob("*.md")} - {"index"}


# What the snippets do

KEVA = "81c2f5eb-f99f-40c4-b504-59483e6148d7"


def context(operator: Any, **facts: Any) -> Any:
    """What Airflow hands to `execute`, as far as our code reads it."""
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id=operator.task_id, map_index=-1, xcom_pull=lambda **_: None)
    return {"ti": ti, "ds": "2000-01-01", "run_id": "r", **facts}


def test_the_resource_on_the_page_is_read(redox_connection: Sandbox, tmp_path: Path):
    """The page on reading: one file of one line, which its next task reads; the manifest does not name the patient."""
    names = run(DOCS / "reading.md")
    names["patient"].output_path = f"file://{tmp_path}"
    manifest = names["patient"].execute(context(names["patient"], params={"patient": KEVA}))
    assert [entry["count"] for entry in manifest["output"]] == [1]
    assert KEVA not in json.dumps(manifest)
    assert names["gender"].function(manifest) == "female"


def test_the_questions_on_the_page_are_asked(redox_connection: Sandbox, tmp_path: Path):
    """The page on queries: a question for each row of a list, and each answer names its row."""
    find = run(DOCS / "queries.md")["find"]
    (tmp_path / "roster.csv").write_text("mrn,given,family,birthDate\n1,Keva,Green,1995-08-26\n2,Known,Nobody,1990-01-01\n")
    find.cohort, find.output_path = f"file://{tmp_path}/roster.csv", f"file://{tmp_path}"
    manifest = find.execute(context(find))
    assert [one["key"] for one in read_searches(manifest)] == ["1", "2"]
    lines = [
        json.loads(line) for line in Path(manifest["output"][0]["url"].removeprefix("file://")).read_text().splitlines()
    ]
    assert sorted(line["search"] for line in lines) == ["1", "2"]


@pytest.mark.skipif(find_spec("redox") is None, reason="the extra [datamodels] is not installed")
def test_what_the_pages_check_fits_its_model(redox_connection: Sandbox, tmp_path: Path):
    """The pages on messages and on queries: what they show with `validate="strict"` passes, and is sent."""
    message, question = (run(DOCS / page)["checked"] for page in ("sending.md", "queries.md"))
    message.results_path = question.output_path = f"file://{tmp_path}"
    assert message.execute(context(message))["accepted"] == 1
    assert question.execute(context(question))["output"][0]["count"] == 1


def test_the_scan_on_the_page_is_uploaded_and_sent(redox_connection: Sandbox, tmp_path: Path):
    """The page on uploads: the message that follows names the URI of the file."""
    names = run(DOCS / "uploads.md")
    (tmp_path / "scan.pdf").write_bytes(b"%PDF-1.7")
    scan, send = names["scan"], names["send"]
    scan.path = f"file://{tmp_path}/scan.pdf"
    scan.output_path = send.results_path = f"file://{tmp_path}"
    uploaded = scan.execute(context(scan))
    told = context(send)
    told["ti"].xcom_pull = lambda task_ids: {"scan": uploaded}[task_ids]
    assert send.execute(told)["accepted"] == 1
    (message,) = redox_connection.messages()
    assert message["body"]["Media"]["FileContents"] == uploaded["uris"][0]


def test_the_documents_on_the_page_are_downloaded(redox_connection: Sandbox, tmp_path: Path):
    """The page on documents: what the references point to is in files, each with a line that has the keys of the page's."""
    names = run(DOCS / "documents.md")
    references, documents = names["references"], names["documents"]
    references.output_path = documents.output_path = f"file://{tmp_path}"
    documents.manifest = references.execute(context(references))
    manifest = documents.execute(context(documents))
    entries = list(read_resources(manifest, "Document"))
    (listed,) = [json.loads(block) for block in blocks(DOCS / "documents.md", "json")]
    assert entries
    assert all(list(entry) == list(listed) for entry in entries)
    assert names["count_pdfs"].function(manifest) == sum(one["contentType"] == "application/pdf" for one in entries)


def test_the_purges_on_the_page_do_what_they_say(redox_connection: Sandbox, tmp_path: Path):
    """The page on retention: one says what it would do, one erases a patient and keeps the rest, one destroys the old."""
    search = run(DOCS / "searching.md")["diabetics"]
    root = search.output_path = f"file://{tmp_path}/out"
    found = search.execute(context(search))
    patients = [one["id"] for one in read_resources(found, "Patient")]
    names = run(DOCS / "retention.md")
    old, what_if, erase = names["old"], names["what_if"], names["erase"]
    old.output_path = what_if.output_path = erase.output_path = root
    assert old.execute(context(old))["counts"]["destroyed"] == 0  # nothing is 90 days old
    old.older_than = what_if.older_than = erase.older_than = timedelta(0)

    assert what_if.execute(context(what_if))["counts"]["destroyed"] >= len(found["output"])
    assert len(list(read_resources(found, "Patient"))) == len(patients)

    (tmp_path / "patients.txt").write_text(f"Patient/{patients[0]}\n")
    erase.patients_path = f"file://{tmp_path}/patients.txt"
    erased = erase.execute(context(erase))
    assert erased["counts"]["rewritten"] > 0
    assert patients[0] not in Path(erased["url"].removeprefix("file://")).read_text()
    (manifest,) = (tmp_path / "out").rglob("manifest.json")
    assert [one["id"] for one in read_resources(f"file://{manifest}", "Patient")] == patients[1:]

    destroyed = old.execute(context(old))
    assert list(destroyed) == ["id", "status", "counts", "bytes", "url"]
    assert not list((tmp_path / "out").rglob("*.ndjson"))


def test_the_sensor_on_the_page_hands_messages_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The page on the inbox: its sensor defers while there is nothing, and then returns an event for `read_messages`."""
    box = Box(f"file://{tmp_path}/inbox/results")
    monkeypatch.setenv("REDOX_INBOX", box.root)
    names: dict[str, Any] = {"__name__": "example"}
    example = ROOT / "dags" / "redox_inbox_sensor.py"
    exec(compile(example.read_text(), example.name, "exec"), names)
    with pytest.raises(TaskDeferred):
        names["arrived"].execute(context(names["arrived"]))
    box.put("a", "b")
    names["arrived"].deferrable = False
    event = names["arrived"].poke(context(names["arrived"])).xcom_value
    assert [one.log_id for one in read_messages(event, inbox_path=box.root, consumer="test")] == ["a", "b"]
