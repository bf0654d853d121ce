"""Destroying what was pulled: by whose it is, by age, by patient; nothing that keeps a message from being sent twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator, RedoxDataModelQueryOperator
from airflow_provider_redox.operators.documents import RedoxDocumentDownloadOperator
from airflow_provider_redox.operators.fhir import RedoxFhirReadOperator, RedoxFhirSearchOperator
from airflow_provider_redox.operators.purge import RedoxPurgeOperator
from airflow_provider_redox.operators.request import RedoxRequestOperator
from airflow_provider_redox.operators.upload import RedoxUploadOperator
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.purging import summary
from airflow_provider_redox.storage.reading import parse_manifest
from tests.support.s3 import Bucket
from tests.support.sandbox import Sandbox

KEVA = "81c2f5eb-f99f-40c4-b504-59483e6148d7"
GREEN = {"family": "Green", "given": "Keva", "birthdate": "1995-08-26"}
LABS = {"code": "4548-4", "_count": "20"}
MESSAGE = {
    "Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"},
    "Patient": {"Identifiers": [{"ID": "mrn-77", "IDType": "MR"}]},
}
QUESTION = {
    "Meta": {"DataModel": "PatientSearch", "EventType": "Query"},
    "Patient": {"Demographics": {"FirstName": "Keva", "LastName": "Green", "DOB": "1995-08-26"}},
}
NOW = timedelta(0)

Execute = Callable[..., Any]


@pytest.fixture(autouse=True)
def _as_a_task(redox_connection: Sandbox, markers: Any) -> None:
    """Every test runs operators against the sandbox."""


def files(root: str) -> dict[str, str]:
    """Every file below a root, by its path in it."""
    folder = Path(root.removeprefix("file://"))
    return {str(one.relative_to(folder)): one.read_text() for one in folder.rglob("*") if one.is_file()}


def purge(root: str, **what: Any) -> dict[str, Any]:
    """Purge as a task of a DAG of its own would."""
    told: dict[str, Any] = RedoxPurgeOperator(task_id="purge", output_path=root, **{"older_than": NOW, **what}).execute(
        {"ti": type("TI", (), {"dag_id": "retention", "run_id": "r", "task_id": "purge"})}
    )
    return told


def search(root: str, task_id: str = "labs", **more: Any) -> RedoxFhirSearchOperator:
    arguments: dict[str, Any] = {"resource_type": "Observation", "search_params": LABS, **more}
    return RedoxFhirSearchOperator(task_id=task_id, output_path=root, **arguments)


def listed(line: str) -> list[str]:
    """Give the log IDs of a line of what was sent."""
    try:
        found = json.loads(line)
    except ValueError:
        return []
    return found.get("log_ids", []) if isinstance(found, dict) else []


def patients_file(tmp_path: Path, *names: str) -> str:
    path = tmp_path / "patients.txt"
    path.write_text("\n".join(names) + "\n")
    return str(path)


def test_a_result_is_destroyed_whole(execute: Execute, output: str) -> None:
    """Files, manifest and workspace of a result go; the certificate names each, and nothing else is left."""
    execute(search(output))
    before = files(output)
    told = purge(output, of_dag_id="pull")
    after = files(output)
    (certificate,) = (json.loads(text) for text in after.values())
    assert told["counts"] == {"destroyed": len(before), "reduced": 0, "rewritten": 0}
    assert {one["url"].removeprefix(f"{output}/") for one in certificate["files"]} == set(before)
    assert told["bytes"] == sum(len(text.encode()) for text in before.values())
    assert certificate["by"]["dag_id"] == "retention"
    assert told["url"] == f"{output}/_redox/certificates/{certificate['id']}.json"


def test_a_plan_changes_nothing(execute: Execute, output: str) -> None:
    """With `plan_only` it is told what would go, and all of it stays."""
    execute(search(output))
    before = files(output)
    told = purge(output, of_dag_id="pull", plan_only=True)
    assert (told["status"], told["url"], told["counts"]["destroyed"]) == ("planned", None, len(before))
    assert files(output) == before


def test_only_what_is_meant_goes(execute: Execute, output: str) -> None:
    """Another task, run, destination or DAG is not touched."""
    execute(search(output, "labs"))
    execute(search(output, "other"))
    keep = {name: text for name, text in files(output).items() if "/other" in name}
    for wrong in ({"of_dag_id": "push"}, {"of_run_id": "r"}, {"destination": "elsewhere"}, {"environment": "Production"}):
        assert purge(output, **wrong, on_empty="succeed")["status"] == "nothing"
    purge(output, of_task_id="labs", of_dag_id="pull", destination="general", environment="Development")
    left = {name: text for name, text in files(output).items() if not name.startswith("_redox/")}
    assert left == keep


def test_what_is_young_stays(execute: Execute, output: str) -> None:
    """By default what was written within a day stays, as its task may be at work; what is older goes."""
    execute(search(output, "young"))
    execute(search(output, "old"))
    for path in Path(output.removeprefix("file://")).rglob("*"):
        if path.is_file() and any(part.partition(".")[0] == "old" for part in path.parts):
            os.utime(path, (time.time() - 2 * 86_400,) * 2)
    told = purge(output, older_than=timedelta(days=1), of_dag_id="pull")
    assert told["counts"]["destroyed"] > 0
    kept = [name for name in files(output) if not name.startswith("_redox/")]
    assert kept
    assert all("young" in name for name in kept)


def test_leftovers_of_a_failed_run_go(execute: Execute, output: str, redox_connection: Sandbox) -> None:
    """What a search left that failed for good, or that nobody tried again, is destroyed with it."""
    redox_connection.fault("status", status=500, match={"path": "Observation"}, skip=2, times=None)
    from airflow_provider_redox.protocol.outcomes import RetryPolicy

    operator = search(output)
    operator.hook.retry = RetryPolicy(attempts=1)
    with pytest.raises(Exception, match="500"):
        execute(operator)
    assert any("/staged/" in name for name in files(output))
    purge(output, of_dag_id="pull")
    assert [name for name in files(output) if not name.startswith("_redox/certificates")] == []


def test_what_was_sent_is_reduced_and_still_not_sent_twice(
    execute: Execute, output: str, redox_connection: Sandbox, tmp_path: Path
) -> None:
    """Of sends the hash and the outcome stay: a task that is cleared after the purge sends nothing twice."""
    (tmp_path / "messages.ndjson").write_text("".join(json.dumps({**MESSAGE, "Visit": {"n": n}}) + "\n" for n in range(3)))
    many = {"task_id": "many", "payload_path": str(tmp_path / "messages.ndjson"), "results_path": output}
    execute(RedoxDataModelPostOperator(task_id="one", payload=MESSAGE, results_path=output))
    execute(RedoxDataModelPostOperator(**many))
    whole = RedoxHook().client.calls.complete_message(MESSAGE)
    execute(RedoxRequestOperator(task_id="any", method="POST", path="endpoint", json=whole, output_path=output))
    sent = len(redox_connection.control("GET", "messages"))
    log_ids = {one for line in "".join(files(output).values()).splitlines() for one in listed(line)}
    assert log_ids
    told = purge(output, of_dag_id="pull")
    assert told["counts"]["reduced"] >= 4
    left = "".join(text for name, text in files(output).items() if not name.startswith("_redox/"))
    assert "data_model" not in left
    assert all(one not in left for one in log_ids)
    for operator in (
        RedoxDataModelPostOperator(task_id="one", payload=MESSAGE, results_path=output),
        RedoxDataModelPostOperator(**many),
        RedoxRequestOperator(task_id="any", method="POST", path="endpoint", json=whole, output_path=output),
    ):
        execute(operator)
    assert len(redox_connection.control("GET", "messages")) == sent


@pytest.mark.parametrize("line_format", ["raw", "envelope"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_patient_is_taken_out(
    execute: Execute, output: str, tmp_path: Path, line_format: str, compression: str | None
) -> None:
    """The lines of a patient go, and the manifest says what is left, with counts and checksums that hold."""
    how = {"line_format": line_format, "compression": compression}
    manifest = execute(search(output, "all", search_params={"_lastUpdated": "ge2000-01-01", "_count": "200"}, **how))
    url = f"{output}/destination=general/environment=Development/_redox/dag_id=pull"
    (stored,) = (f"file://{path}" for path in Path(url.removeprefix("file://")).rglob("manifest.json"))
    lines = [json.loads(line) for _, line in parse_manifest(manifest).resources("Observation")]
    theirs = [one for one in lines if one["subject"]["reference"] == f"Patient/{KEVA}"]
    assert 0 < len(theirs) < len(lines)
    told = purge(output, destination="general", patients_path=patients_file(tmp_path, f"Patient/{KEVA}"))
    left = [json.loads(line) for _, line in parse_manifest(stored).resources("Observation")]  # checks sums and counts
    assert left == [one for one in lines if one not in theirs]
    certificate = json.loads(Path(told["url"].removeprefix("file://")).read_text())
    assert sum(one.get("lines", 0) for one in certificate["files"]) == len(theirs)
    if compression is None:
        assert not any(KEVA in text for text in files(output).values())


def test_a_patient_is_taken_out_of_everything(execute: Execute, output: str, tmp_path: Path) -> None:
    """By an identifier too: the Patient, what refers to it, answers, documents, bodies, lists; the rest stays."""
    cohort = tmp_path / "cohort.ndjson"
    rows = [{"mrn": "Zyxwvu", **GREEN}, {"mrn": "other", "family": "Nobody", "given": "X", "birthdate": "1990-01-01"}]
    cohort.write_text("".join(json.dumps(row) + "\n" for row in rows))
    execute(
        search(
            output,
            "cohort",
            resource_type="Patient",
            cohort=str(cohort),
            cohort_key="mrn",
            search_params={name: f"{{{name}}}" for name in GREEN},
        )
    )
    references = execute(search(output, "documents", resource_type="DocumentReference", search_params={"patient": KEVA}))
    execute(RedoxDocumentDownloadOperator(task_id="files", manifest=references, output_path=output))
    execute(RedoxDataModelQueryOperator(task_id="query", payload=QUESTION, output_path=output))
    execute(RedoxFhirReadOperator(task_id="read", resource_type="Patient", resource_id=KEVA, output_path=output))
    path = f"fhir/R4/general-hospital/Development/Patient/{KEVA}"
    execute(RedoxRequestOperator(task_id="body", method="GET", path=path, output_path=output))
    execute(search(output, "labs"))
    keva = json.loads(next(text for name, text in files(output).items() if "read.Patient" in name))
    identifiers = [one["value"] for one in keva["identifier"]]
    documents = [name for name in files(output) if ".DocumentFile." in name]
    assert documents
    assert identifiers
    told = purge(output, destination="general", patients_path=patients_file(tmp_path, *identifiers, "Zyxwvu"))
    left = {name: text for name, text in files(output).items() if "certificates" not in name}
    for secret in (KEVA, *identifiers, "Zyxwvu", "Keva"):
        assert [name for name, text in left.items() if secret in text] == []
    assert [name for name in left if ".DocumentFile." in name or ".Response." in name] == []
    assert any("/labs.Observation" in name and text for name, text in left.items())
    assert json.loads(next(text for name, text in left.items() if name.endswith("searches.ndjson")))["key"] == "other"
    certificate = Path(told["url"].removeprefix("file://")).read_text()
    assert not any(one in certificate for one in (KEVA, "Zyxwvu", *identifiers))
    everything = patients_file(tmp_path, f"Patient/{KEVA}", *identifiers, "Zyxwvu")
    again = purge(output, destination="general", patients_path=everything, on_empty="succeed")
    assert again["counts"] == {"destroyed": 0, "reduced": 0, "rewritten": 0}


def test_a_purge_that_was_killed_is_taken_up(execute: Execute, output: str, tmp_path: Path) -> None:
    """After any step of it, what is visible is whole, and the next purge ends what this one began."""
    from airflow_provider_redox.storage.files import Files

    class KilledError(BaseException):
        pass

    def stepping(call: Any, left: Iterator[int]) -> Any:
        def step(*args: Any) -> Any:
            if next(left, None) is None:
                raise KilledError
            return call(*args)

        return step

    patients = patients_file(tmp_path, f"Patient/{KEVA}")
    ended, after = False, 0
    while not ended:
        execute(search(output, search_params={"_lastUpdated": "ge2000-01-01", "_count": "200"}))
        steps = iter(range(after))
        with pytest.MonkeyPatch.context() as patch:
            for name in ("write", "remove"):
                patch.setattr(Files, name, stepping(getattr(Files, name), steps))
            try:
                purge(output, destination="general", patients_path=patients)
                ended = True
            except KilledError:
                after += 1
        (stored,) = (f"file://{path}" for path in Path(output.removeprefix("file://")).rglob("manifest.json"))
        list(parse_manifest(stored).resources("Observation"))
        purge(output, destination="general", patients_path=patients)
        list(parse_manifest(stored).resources("Observation"))
        assert [name for name, text in files(output).items() if KEVA in text] == []
    assert after > 3


def test_a_list_without_patients_destroys_nothing(execute: Execute, output: str, tmp_path: Path) -> None:
    """An empty list is a mistake, not everybody."""
    execute(search(output))
    before = files(output)
    with pytest.raises(AirflowFailException, match="patients_path: names no patient"):
        purge(output, destination="general", patients_path=patients_file(tmp_path, ""))
    assert files(output) == before


def test_on_an_object_store(execute: Execute, bucket: Bucket) -> None:
    """A bucket's results are found by its listing, and destroyed by whom and by age."""
    execute(search(bucket.root))
    assert purge(bucket.root, older_than=timedelta(days=1), of_dag_id="pull")["counts"]["destroyed"] == 0
    told = purge(bucket.root, of_dag_id="pull")
    assert told["counts"]["destroyed"] > 1
    assert [key for key in bucket.list() if "/certificates/" not in key] == []
    assert json.loads(bucket.at(told["url"]))["status"] == "destroyed"


@pytest.mark.parametrize(("status", "told"), [(None, "no"), ("Enabled", "yes")])
def test_a_bucket_that_keeps_versions_is_named(execute: Execute, bucket: Bucket, status: str | None, told: str) -> None:
    """What a bucket keeps of removed objects can be read still, and the certificate says so."""
    if status is not None:
        how = {"Status": status}
        bucket.server.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration=how)
    execute(search(bucket.root))
    certificate = json.loads(bucket.at(purge(bucket.root, of_dag_id="pull")["url"]))
    assert certificate["bucket_keeps_versions"] == told
    assert ("may keep earlier versions" in summary(certificate)) is (told == "yes")


def test_a_refused_removal_leaves_a_plan_and_no_certificate(execute: Execute, bucket: Bucket) -> None:
    """A bucket that does not let objects be removed fails the purge; what was planned stays as a journal."""
    execute(search(bucket.root))
    bucket.deny("s3:DeleteObject")
    with pytest.raises(Exception, match=r"denied|may not|refused|AccessDenied"):
        purge(bucket.root, of_dag_id="pull")
    bucket.allow()
    (journal,) = (key for key in bucket.list() if "/certificates/" in key)
    assert journal.endswith(".planned.json")
    assert purge(bucket.root, of_dag_id="pull")["status"] == "destroyed"
    (certificate,) = (key for key in bucket.list() if "/certificates/" in key)
    assert not certificate.endswith(".planned.json")


def test_names_that_are_patterns_destroy_nothing_else(execute: Execute, bucket: Bucket) -> None:
    """Whoever may write to the store has nobody else's files destroyed by a name that a driver takes for a pattern."""
    execute(search(bucket.root))
    before = bucket.list()
    for name in ("manifest.json", "manifest.json/x"):
        bucket.put(bucket.key(f"{bucket.root}/destination=*/environment=*/_redox/dag_id=*/run_id=*/*/{name}"), b"{}")
    told = purge(bucket.root, of_dag_id="*", on_empty="succeed")
    assert told["counts"]["destroyed"] == 0
    Files(bucket.root).remove(f"{bucket.root}/destination=*/environment=*/_redox/dag_id=*/run_id=*/*")
    assert set(before) <= set(bucket.list())
    assert not [key for key in bucket.list() if "*" in key]


def test_the_command_plans_then_destroys(execute: Execute, output: str, tmp_path: Path) -> None:
    """`purge` says what would go; with --yes it goes. Without saying what, it does nothing."""
    execute(search(output))
    before = files(output)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "airflow_provider_redox", "purge", "--root", output, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    nothing = run("--yes")
    assert (nothing.returncode, "Say what" in nothing.stderr) == (2, True)
    planned = run("--dag-id", "pull", "--older-than", "0")
    assert (planned.returncode, files(output)) == (0, before)
    assert len(planned.stdout.splitlines()) == len(before)
    assert "Nothing was changed" in planned.stderr
    young = run("--dag-id", "pull", "--yes")
    assert "Left alone, as it is younger" in young.stderr
    done = run("--dag-id", "pull", "--older-than", "0", "--yes")
    assert (done.returncode, done.stdout) == (0, planned.stdout)
    assert all("certificates" in name for name in files(output))


def stored(root: str, place: str, resources: list[dict[str, Any]]) -> Path:
    """Lay down a result as a task would have left it; gives its file."""
    folder = Path(root.removeprefix("file://")) / place
    run = "dag_id=pull/run_id=r"
    file = folder / "type=Patient" / run / "t.Patient.00000.ndjson"
    workspace = folder / "_redox" / run / "t"
    for one in (file.parent, workspace):
        one.mkdir(parents=True)
    file.write_text("".join(json.dumps(one) + "\n" for one in resources))
    listed = {"type": "Patient", "url": f"file://{file}", "count": len(resources)}
    (workspace / "manifest.json").write_text(json.dumps({"output": [listed], "error": []}))
    return file


GENERAL, LAKESIDE = "destination=general/environment=Development", "destination=lakeside/environment=Development"
ALICE = {"resourceType": "Patient", "id": "1", "identifier": [{"value": "4711"}]}
BOB = {"resourceType": "Patient", "id": "4711", "name": [{"family": "Bob"}]}


def results(root: str, place: str = GENERAL) -> list[dict[str, Any]]:
    """Every line of the results of a place."""
    text = "".join(text for name, text in files(root).items() if name.startswith(f"{place}/type="))
    return [json.loads(line) for line in text.splitlines()]


def test_nobody_else_is_erased(output: str, tmp_path: Path) -> None:
    """An identifier is no logical ID, and what one hospital calls a patient is somebody else's at another."""
    stored(output, GENERAL, [ALICE, BOB])
    stored(output, LAKESIDE, [{**BOB, "id": "1"}])
    purge(output, destination="general", patients_path=patients_file(tmp_path, "4711"))
    assert results(output) == [BOB]
    assert results(output, LAKESIDE) == [{**BOB, "id": "1"}]
    with pytest.raises(RedoxConfigError, match="destination: missing"):  # when the DAG is read
        purge(output, of_dag_id="pull", patients_path=patients_file(tmp_path, "4711"))


def test_a_root_by_another_name_is_the_same_root(output: str, tmp_path: Path) -> None:
    """A link to the root, or another connection, finds the files that the manifest names, and takes out no more."""
    stored(output, GENERAL, [ALICE, BOB])
    link = tmp_path / "link"
    link.symlink_to(output.removeprefix("file://"))
    told = purge(f"file://{link}", destination="general", patients_path=patients_file(tmp_path, "Patient/1"))
    assert told["counts"] == {"destroyed": 0, "reduced": 0, "rewritten": 1}
    assert results(output) == [BOB]


def test_what_is_not_understood_changes_nothing(output: str, tmp_path: Path) -> None:
    """A manifest that names what is not there, or cannot be read, is refused before anything is changed."""
    stored(output, GENERAL, [ALICE, BOB])
    manifest = next(Path(output.removeprefix("file://")).rglob("manifest.json"))
    for text in ('{"output": [{"url": "s3://elsewhere/destination=general/x"}]}', '{"output": [{}]}', "no json"):
        manifest.write_text(text)
        before = files(output)
        with pytest.raises(AirflowFailException, match="nothing was changed"):
            purge(output, destination="general", patients_path=patients_file(tmp_path, "Patient/1"))
        assert files(output) == before


def test_answers_of_others_stay(output: str, tmp_path: Path) -> None:
    """A body without a manifest is no leftover: it goes when it is about the patient."""
    folder = Path(output.removeprefix("file://")) / GENERAL / "type=Response/dag_id=pull/run_id=r"
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f"t~{number}.Response.00000.json").write_text(json.dumps({"resourceType": "Patient", "id": str(number)}))
    purge(output, destination="general", patients_path=patients_file(tmp_path, "Patient/1", "Patient/999"))
    assert [path.name for path in folder.iterdir()] == ["t~2.Response.00000.json"]


def test_what_a_killed_try_left_beside_a_result_goes(output: str, tmp_path: Path) -> None:
    """Staged parts, checkpoints, halves, and documents that no list names may hold anybody: they go."""
    file = stored(output, GENERAL, [BOB])
    workspace = Path(output.removeprefix("file://")) / GENERAL / "_redox/dag_id=pull/run_id=r/t"
    left = [workspace / "staged/abcd/t.Patient.00000.ndjson", workspace / "checkpoint", workspace / "searches.so-far.ndjson"]
    left += [file.with_name("t.DocumentFile.00007.pdf"), file.with_name(".t.DocumentFile.00008.pdf.0a1b2c3d.partial")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(ALICE))
    purge(output, destination="general", patients_path=patients_file(tmp_path, "Patient/1"))
    assert not any(path.exists() for path in left)
    assert json.loads(file.read_text()) == BOB


def test_what_a_killed_purge_left_is_nobodys(output: str, tmp_path: Path) -> None:
    """A file that no manifest names any more, or not yet, goes: the lines of the others stand in the one that is named."""
    file = stored(output, GENERAL, [BOB])
    orphan = file.with_name("t.Patient.00001.ndjson")
    orphan.write_text(json.dumps(BOB))
    purge(output, destination="general", patients_path=patients_file(tmp_path, "Patient/1"), on_empty="succeed")
    assert not orphan.exists()
    assert results(output) == [BOB]


def test_what_was_found_wrong_with_a_patient_goes(output: str, tmp_path: Path) -> None:
    """The report of a validation names resources, and those that were the patient's go out of it."""
    file = stored(output, GENERAL, [ALICE, BOB])
    findings = [
        {"resourceType": "OperationOutcome", "issue": [{"details": {"text": f"Patient/{n}"}}]} for n in ("1", "4711")
    ]
    report = Path(str(file.parent).replace("type=Patient", "type=ValidationOutcome")) / "t.ValidationOutcome.00000.ndjson"
    report.parent.mkdir(parents=True)
    report.write_text("".join(json.dumps(one) + "\n" for one in findings))
    manifest = Path(output.removeprefix("file://")) / GENERAL / "_redox/dag_id=pull/run_id=r/t/manifest.json"
    told = json.loads(manifest.read_text())
    told["error"].append({"type": "ValidationOutcome", "url": f"file://{report}", "count": 2})
    manifest.write_text(json.dumps(told))
    purge(output, destination="general", patients_path=patients_file(tmp_path, "4711"))
    assert "Patient/1" not in "".join(files(output).values())
    assert "Patient/4711" in "".join(files(output).values())


@pytest.mark.parametrize(
    "line",
    [
        {"resourceType": "Patient", "id": "2", "identifier": [{"value": ["x"]}]},
        {"destination": [], "resourceType": "MessageHeader", "id": "2"},
        {"destination": 1, "resourceType": "Patient", "id": "1", "resource": {}},
        {"resourceType": "Patient", "identifier": {"value": 1}, "id": 1},
    ],
)
def test_strange_lines_neither_stop_nor_evade_it(output: str, tmp_path: Path, line: dict[str, Any]) -> None:
    """Whatever a server sent, an erasure goes through, and finds the patient."""
    stored(output, GENERAL, [line, BOB, ALICE])
    purge(output, destination="general", patients_path=patients_file(tmp_path, "Patient/1"))
    assert results(output) == [one for one in (line, BOB) if one.get("id") != "1"]


def test_a_task_that_is_at_work_again_keeps_its_result(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written between the plan and the deed stays, and the certificate says so."""
    from airflow_provider_redox.storage.purge_journal import Journal

    file = stored(output, GENERAL, [ALICE])
    manifest = next(Path(output.removeprefix("file://")).rglob("manifest.json"))
    write = Journal._write

    def meanwhile(self: Journal, url: str, certificate: dict[str, Any]) -> None:
        write(self, url, certificate)
        os.utime(manifest, (time.time() + 5,) * 2)

    monkeypatch.setattr(Journal, "_write", meanwhile)
    told = purge(output, of_dag_id="pull", older_than=timedelta(0))
    assert told["counts"]["destroyed"] == 0
    assert file.exists()
    assert json.loads(Path(told["url"].removeprefix("file://")).read_text())["left_because_changed"] == 1


def test_a_message_that_one_destination_took_stays_held_back(
    execute: Execute, output: str, redox_connection: Sandbox
) -> None:
    """Of a message that was refused by one destination and taken by another the log IDs stay: it is not sent again."""
    body = {"Meta": {"Logs": [{"ID": "log-1"}], "Errors": [{"ID": 1, "Text": "no", "Type": "t", "Module": "m"}]}}
    redox_connection.fault("status", status=200, body=json.dumps(body), match={"path": "/endpoint"})
    operator: dict[str, Any] = {"task_id": "one", "payload": MESSAGE, "results_path": output}
    with pytest.raises(AirflowFailException):
        execute(RedoxDataModelPostOperator(**operator))
    purge(output, of_dag_id="pull")
    sent = len(redox_connection.ledger("/endpoint"))
    with pytest.raises(AirflowFailException):
        execute(RedoxDataModelPostOperator(**operator))
    assert len(redox_connection.ledger("/endpoint")) == sent


def test_an_upload_keeps_its_uri(execute: Execute, output: str, tmp_path: Path) -> None:
    """A task that is cleared after the purge gives the URI that its file has."""
    (tmp_path / "file").write_text("a file")
    operator: dict[str, Any] = {"task_id": "u", "path": str(tmp_path / "file"), "output_path": output}
    first = execute(RedoxUploadOperator(**operator))
    purge(output, of_dag_id="pull")
    assert execute(RedoxUploadOperator(**operator))["uris"] == first["uris"]


LINKED = {
    "resourceType": "Patient",
    "id": "1",
    "identifier": [{"value": "4711"}],
    "link": [{"other": {"reference": "Patient/6"}}],
}


@pytest.mark.parametrize("name", ["4711", "Patient/1"])
@pytest.mark.parametrize("resource", [LINKED, {"resourceType": "Bundle", "entry": [{"resource": ALICE}]}])
def test_a_patient_is_found_wherever_it_stands(output: str, tmp_path: Path, name: str, resource: dict[str, Any]) -> None:
    """A Patient that refers to another one is still itself, and a body of an answer tells which logical ID an MRN has."""
    observation = {"resourceType": "Observation", "id": "o", "subject": {"reference": "Patient/1"}}
    stored(output, GENERAL, [resource, observation, BOB])
    folder = Path(output.removeprefix("file://")) / GENERAL / "type=Response/dag_id=pull/run_id=r"
    folder.mkdir(parents=True)
    (folder / "q.Response.00000.json").write_text(json.dumps(resource))
    purge(output, destination="general", patients_path=patients_file(tmp_path, name))
    assert results(output) == [BOB]
    assert list(folder.iterdir()) == []


def test_a_contained_id_is_nobody_elses(output: str, tmp_path: Path) -> None:
    """The ID of a contained Patient means something in its own resource only: nobody is erased by it."""
    holder = {"resourceType": "Observation", "id": "o", "contained": [{**ALICE, "id": "4711"}]}
    stored(output, GENERAL, [holder, BOB])
    purge(output, destination="general", patients_path=patients_file(tmp_path, "4711"))
    assert results(output) == [BOB]


@pytest.mark.parametrize("place", ["out", "staged/redox"])
@pytest.mark.parametrize("task", ["t", "staged"])
def test_names_of_tasks_and_roots_mean_nothing(tmp_path: Path, place: str, task: str) -> None:
    """A task or a folder that is called `staged` is not taken for what a killed try left."""
    root = f"file://{tmp_path}/{place}"
    file = stored(root, GENERAL, [BOB])
    if task != "t":
        manifest = next(Path(root.removeprefix("file://")).rglob("manifest.json"))
        text = manifest.read_text().replace("/t.Patient", f"/{task}.Patient")
        manifest.write_text(text)
        manifest.parent.rename(manifest.parent.with_name(task))
        file.rename(file.with_name(f"{task}.Patient.00000.ndjson"))
    before = files(root)
    purge(root, destination="general", patients_path=patients_file(tmp_path, "Patient/1"), on_empty="succeed")
    assert {name: text for name, text in files(root).items() if not name.startswith("_redox/")} == before


@pytest.mark.parametrize("line", ['{"source": ["x"], "url": {}}', '{"a":' + "[" * 50_000 + "]" * 50_000 + "}"])
@pytest.mark.parametrize("line_format", ["raw", "envelope"])
def test_no_stored_line_breaks_an_erasure(output: str, tmp_path: Path, line: str, line_format: str) -> None:
    """Whatever lies in a list of documents or in an envelope, the erasure goes through."""
    for kind in ("Document", "Patient"):
        file = stored(output, f"destination=general/environment={kind}", [ALICE, BOB])
        moved = Path(str(file).replace("type=Patient", f"type={kind}").replace(".Patient.", f".{kind}."))
        moved.parent.mkdir(parents=True, exist_ok=True)
        moved.write_text(file.read_text() + line + "\n")
        listed = {"output": [{"url": f"file://{moved}"}], "extension": {"line_format": line_format}}
        (Path(str(file).partition("/type=")[0]) / "_redox/dag_id=pull/run_id=r/t/manifest.json").write_text(
            json.dumps(listed)
        )
    told = purge(output, destination="general", patients_path=patients_file(tmp_path, "Patient/1"))
    assert told["counts"]["rewritten"] == 2


def test_a_send_that_ends_meanwhile_is_not_forgotten(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a task says it sent between the plan and the deed stays said: an older line is not laid over it."""
    from airflow_provider_redox.storage.purge_journal import Journal

    line = (
        Path(output.removeprefix("file://"))
        / GENERAL
        / "type=DataModelPost/dag_id=pull/run_id=r/t.DataModelPost.00000.ndjson"
    )
    line.parent.mkdir(parents=True)
    line.write_text('{"index":0,"outcome":"unsent","hash":"h","error":"RedoxTransportError"}\n')
    write = Journal._write

    def meanwhile(self: Journal, url: str, certificate: dict[str, Any]) -> None:
        write(self, url, certificate)
        if url.endswith(".planned.json"):
            line.write_text('{"index":0,"outcome":"accepted","hash":"h","log_ids":["l"]}\n')

    monkeypatch.setattr(Journal, "_write", meanwhile)
    purge(output, of_dag_id="pull")
    assert json.loads(line.read_text())["outcome"] == "accepted"


@pytest.mark.parametrize("identifier", ["d1", "e" * 88, "a_b:c", "a/b c"])
def test_documents_of_odd_ids_and_of_answers_go(output: str, tmp_path: Path, execute: Execute, identifier: str) -> None:
    """The documents of a patient's references, whatever their IDs, and of answers, go with them; those of others stay."""
    alice = {"resourceType": "DocumentReference", "id": identifier, "subject": {"reference": "Patient/1"}}
    bob = {"resourceType": "DocumentReference", "id": f"{identifier}/2", "subject": {"reference": "Patient/2"}}
    answers = [
        {
            "Meta": {"DataModel": "Media", "EventType": "QueryResponse"},
            "Patient": {"Identifiers": [{"ID": mrn, "IDType": "MR"}]},
            "Media": {"FileType": "TXT", "FileContents": data},
        }
        for mrn, data in (("mrn-1", "YWxpY2UncyBhbnN3ZXI="), ("mrn-2", "Ym9iJ3MgYW5zd2Vy"))
    ]
    attachments = [{"content": [{"attachment": {"data": data}}]} for data in ("YWxpY2UncyBmaWxl", "Ym9iJ3MgZmlsZQ==")]
    stored(output, GENERAL, [{**alice, **attachments[0]}, {**bob, **attachments[1]}, *answers])
    manifest = next(Path(output.removeprefix("file://")).rglob("manifest.json"))
    execute(
        RedoxDocumentDownloadOperator(task_id="files", manifest=str(manifest), output_path=output, destination="general")
    )
    purge(output, destination="general", patients_path=patients_file(tmp_path, "Patient/1", "mrn-1"))
    documents = sorted(text for name, text in files(output).items() if ".DocumentFile." in name)
    assert documents == ["bob's answer", "bob's file"]
