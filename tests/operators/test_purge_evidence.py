"""A purge certifies what was found and destroyed; what is not there, or is not found, is an error, or said to be nothing."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.cli.main import main
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.operators.purge import RedoxPurgeOperator
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.reading import parse_manifest

NOW = timedelta(0)
OLD = time.time() - 3 * 86_400
GENERAL, LAKESIDE = "destination=general/environment=Development", "destination=lakeside/environment=Development"
ALICE = {"resourceType": "Patient", "id": "1", "identifier": [{"system": "urn:mrn", "value": "m-1"}]}
BOB = {"resourceType": "Patient", "id": "2", "identifier": [{"system": "urn:mrn", "value": "m-2"}]}


def purge(root: str, *, run: str = "r", **what: Any) -> dict[str, Any]:
    """Purge as a task of a DAG of its own would."""
    operator = RedoxPurgeOperator(task_id="purge", output_path=root, **{"older_than": NOW, **what})
    told: dict[str, Any] = operator.execute(
        {"ti": type("TI", (), {"dag_id": "retention", "run_id": run, "task_id": "purge"})}
    )
    return told


def stored(root: str, lines: list[dict[str, Any]], *, place: str = GENERAL, dag: str = "pull", task: str = "t") -> Path:
    """Lay down a result as a task would have left it, three days ago; gives its file."""
    base, run = Path(root.removeprefix("file://")) / place, f"dag_id={dag}/run_id=r"
    file, manifest = (
        base / "type=Patient" / run / f"{task}.Patient.00000.ndjson",
        base / "_redox" / run / task / "manifest.json",
    )
    put(file, "".join(json.dumps(one) + "\n" for one in lines))
    listed = {"type": "Patient", "url": f"file://{file}", "count": len(lines)}
    put(manifest, json.dumps({"output": [listed], "error": []}))
    return file


def put(path: Path, text: str) -> Path:
    """Write a file of three days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (OLD, OLD))
    return path


def files(root: str) -> dict[str, str]:
    """Every file below a root, by its path in it."""
    folder = Path(root.removeprefix("file://"))
    return {str(one.relative_to(folder)): one.read_text() for one in folder.rglob("*") if one.is_file()}


def left(root: str) -> dict[str, str]:
    return {name: text for name, text in files(root).items() if "_redox/certificates/" not in name}


def lines(root: str) -> list[dict[str, Any]]:
    """Every line of results that a root holds."""
    text = "".join(text for name, text in sorted(files(root).items()) if "/type=" in name)
    return [json.loads(line) for line in text.splitlines()]


def certificates(root: str) -> list[dict[str, Any]]:
    return [json.loads(text) for name, text in files(root).items() if "_redox/certificates/" in name]


def patients_file(tmp_path: Path, *names: str) -> str:
    path = tmp_path / "patients.txt"
    path.write_text("\n".join(names) + "\n")
    return str(path)


# ── where results lie ──


def test_results_below_a_templated_path_are_found(output: str) -> None:
    """A purge of the root finds what lies in folders below it, as an `output_path` with a template makes them."""
    for night in ("2026-01-01", "2026-01-02"):
        stored(f"{output}/night={night}", [ALICE])
    stored(output, [BOB])
    told = purge(output)
    assert (told["status"], told["counts"]["destroyed"]) == ("destroyed", 6)
    assert left(output) == {}
    (certificate,) = certificates(output)
    assert sum("/night=" in one["url"] for one in certificate["files"]) == 4


def test_a_patient_is_taken_out_below_a_templated_path(output: str, tmp_path: Path) -> None:
    """What one night tells of a patient's names counts in the others."""
    stored(f"{output}/night=1", [ALICE, BOB])
    stored(f"{output}/deep/er/night=2", [{"resourceType": "Flag", "id": "f", "subject": {"reference": "Patient/1"}}, BOB])
    told = purge(output, destination="general", patients_path=patients_file(tmp_path, "m-1"))
    assert told["counts"] == {"destroyed": 0, "reduced": 0, "rewritten": 2}
    assert lines(output) == [BOB, BOB]
    for manifest in Path(output.removeprefix("file://")).rglob("manifest.json"):
        assert list(parse_manifest(f"file://{manifest}").resources("Patient"))


# ── what is not there ──


@pytest.mark.parametrize("more", [{}, {"plan_only": True}, {"destination": "general"}])
def test_a_mistyped_root_is_an_error_and_is_not_made(output: str, more: dict[str, Any]) -> None:
    """The error names the root and the likeliest of what is beside it; nothing is written."""
    stored(output, [ALICE])
    before, wrong = files(output), output.replace("/out", "/otu")
    with pytest.raises(AirflowFailException) as raised:
        purge(wrong, **more)
    assert f"output_path: there is nothing at {wrong}; did you mean out? beside it there is out" in str(raised.value)
    assert not Path(wrong.removeprefix("file://")).exists()
    assert files(output) == before


def test_a_root_within_the_layout_is_an_error(output: str) -> None:
    """A root that is a folder of a destination is named with the one that is meant."""
    stored(output, [ALICE])
    with pytest.raises(
        AirflowFailException, match=f"is a folder within results; name {output}, which is above destination="
    ):
        purge(f"{output}/destination=general")
    assert len(files(output)) == 2


def test_a_root_with_files_of_others_is_an_error(output: str) -> None:
    """Files that are none of ours are counted, and stay."""
    put(Path(output.removeprefix("file://")) / "report.csv", "a,b")
    with pytest.raises(AirflowFailException, match="holds 1 files, and none of this package's"):
        purge(output)
    assert files(output) == {"report.csv": "a,b"}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            {"destination": "genral"},
            "destination: no result is of 'genral'; did you mean general? there is general, lakeside",
        ),
        (
            {"destination": "lakeside", "environment": "Production"},
            "environment: no result is of 'Production'; there is Dev",
        ),
        ({"of_dag_id": "pul"}, "of_dag_id: no result is of 'pul'; did you mean pull? there is pull"),
        ({"of_run_id": "x"}, "of_run_id: no result is of 'x'; there is r"),
        ({"of_task_id": "tt"}, "of_task_id: no result is of 'tt'; did you mean t? there is t"),
        ({"of_dag_id": " "}, "of_dag_id: is empty; give it a value, or leave it out"),
        ({"on_empty": "ignore"}, "on_empty: must be one of fail, succeed"),
    ],
)
def test_a_name_that_no_result_has_is_an_error(output: str, what: dict[str, Any], said: str) -> None:
    """The first that nothing has is named, with those that there are."""
    stored(output, [ALICE])
    stored(output, [ALICE], place=LAKESIDE)
    before = files(output)
    with pytest.raises((AirflowFailException, RedoxConfigError)) as raised:  # the latter when the DAG is read
        purge(output, **what)
    assert said in str(raised.value)
    assert files(output) == before


def test_an_author_may_accept_that_nothing_is_there(output: str) -> None:
    """`on_empty="succeed"` says `nothing`, and writes nothing."""
    told = purge(output, on_empty="succeed")
    assert (told["status"], told["url"]) == ("nothing", None)
    assert not Path(output.removeprefix("file://")).exists()


def test_a_night_with_nothing_old_enough_is_ordinary(output: str) -> None:
    """Results that are younger are no failure, and no certificate says that something was destroyed."""
    stored(output, [ALICE])
    before = files(output)
    told = purge(output, older_than=timedelta(days=90))
    assert (told["status"], told["url"], told["counts"]["destroyed"]) == ("nothing", None, 0)
    assert files(output) == before


@pytest.mark.parametrize("what", [{}, {"of_dag_id": "pull"}])
def test_the_night_after_everything_went_is_ordinary(output: str, what: dict[str, Any]) -> None:
    """An earlier certificate of the same selection shows that the name is right: nothing new is no failure."""
    stored(output, [ALICE])
    assert purge(output, run="first", **what)["status"] == "destroyed"
    assert purge(output, run="second", **what)["status"] == "nothing"
    assert len(certificates(output)) == 1
    with pytest.raises(AirflowFailException, match=r"of_dag_id: no result|none of this package's"):
        purge(output, run="third", of_dag_id="another")


@pytest.mark.parametrize("by_patient", [True, False])
def test_a_store_that_keeps_files_is_not_believed(output: str, tmp_path: Path, by_patient: bool) -> None:  # noqa: FBT001
    """Files that are there still after their removal fail the purge, and no certificate says that they are gone."""
    stored(output, [ALICE, BOB])
    what = {"destination": "general", "patients_path": patients_file(tmp_path, "m-1")} if by_patient else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "unlink", lambda path: None)
        with pytest.raises(AirflowFailException, match=f"{1 if by_patient else 2} files still exist"):
            purge(output, **what)
    assert {one["status"] for one in certificates(output)} == {"planned"}
    assert purge(output, **what)["status"] == "destroyed"
    assert lines(output) == ([BOB] if by_patient else [])
    assert [one["status"] for one in certificates(output)] == ["destroyed"]


# ── patients ──


def test_patients_that_nothing_names_are_an_error(output: str, tmp_path: Path) -> None:
    """A mistyped identifier is no erasure: nothing is changed, and no error names it."""
    stored(output, [ALICE, BOB])
    before = files(output)
    with pytest.raises(AirflowFailException) as raised:
        purge(output, destination="general", patients_path=patients_file(tmp_path, "m-99"))
    assert "patients_path: nothing names any of its 1 patients" in str(raised.value)
    assert "m-99" not in str(raised.value)
    assert files(output) == before


def test_young_results_do_not_hide_that_nobody_was_looked_for(output: str, tmp_path: Path) -> None:
    """Where what is there is too young to be read, an erasure fails and says so."""
    stored(output, [ALICE])
    with pytest.raises(AirflowFailException, match="what 1 tasks wrote is younger and was not read"):
        purge(output, destination="general", patients_path=patients_file(tmp_path, "m-1"), older_than=timedelta(days=9))


def test_rows_that_name_nobody_are_told(output: str, tmp_path: Path) -> None:
    """Of several patients the rows of those that nothing names are in the certificate."""
    stored(output, [ALICE, BOB])
    told = purge(output, destination="general", patients_path=patients_file(tmp_path, "m-9", "", "Patient/1", "Patient/m-2"))
    certificate = json.loads(Path(told["url"].removeprefix("file://")).read_text())
    assert certificate["rows_that_name_nobody"] == [1, 4]
    assert lines(output) == [BOB]


def test_a_file_of_patients_in_another_encoding_is_refused(output: str, tmp_path: Path) -> None:
    """Latin-1 would be read as names that nobody has. UTF-16 with its mark, as Excel writes it, is read."""
    stored(output, [ALICE, BOB])
    listed = tmp_path / "patients.txt"
    listed.write_text("m-\u00e9\n", encoding="latin-1")
    with pytest.raises(AirflowFailException, match="patients_path: row 1 is not UTF-8"):
        purge(output, destination="general", patients_path=str(listed))
    listed.write_text("m-1\n", encoding="utf-16")
    assert purge(output, destination="general", patients_path=str(listed))["counts"]["rewritten"] == 1


BY_MRN = {"identifier": {"system": "urn:mrn", "value": "m-1"}}
THEIRS = {
    "a beneficiary by identifier": {"resourceType": "Coverage", "beneficiary": BY_MRN},
    "a task's patient": {"resourceType": "Task", "for": BY_MRN},
    "a subject of research": {"resourceType": "ResearchSubject", "individual": BY_MRN},
    "a participant": {"resourceType": "Appointment", "participant": [{"actor": BY_MRN}]},
    "an urn with the MRN": {"resourceType": "Observation", "subject": {"reference": "urn:uuid:u-1", **BY_MRN}},
    "the same urn alone": {"resourceType": "Observation", "subject": {"reference": "urn:uuid:u-1"}},
    "an urn of the ID": {"resourceType": "Observation", "performer": [{"reference": "urn:uuid:1"}]},
    "a conditional reference": {"resourceType": "Flag", "subject": {"reference": "Patient?identifier=urn:mrn|m-1"}},
    "an untyped input": {"resourceType": "Task", "input": [{"valueReference": BY_MRN}]},
    "an answer of a Data Model": {"Meta": {}, "Patients": [{"Identifiers": [{"ID": "m-1", "IDType": "MR"}]}]},
    "a nested message": {"Meta": {}, "Header": {"Patient": {"Identifiers": [{"ID": "m-1", "IDType": "MR"}]}}},
    "a merged record": {"resourceType": "Patient", "id": "0", "link": [{"other": {"reference": "Patient/1"}}]},
    "what refers to the merged record": {"resourceType": "Flag", "subject": {"reference": "https://h/Patient/0"}},
}


@pytest.mark.parametrize("name", ["Patient/1", "m-1", "urn:mrn|m-1", "Patient/0"])
@pytest.mark.parametrize("apart", [True, False])
def test_every_way_to_name_a_patient_is_found(output: str, tmp_path: Path, name: str, apart: bool) -> None:  # noqa: FBT001
    """By ID or by MRN, in one file or each in a task's of its own, in whatever order: all of it goes, and no other's."""
    others = [
        BOB,
        {"resourceType": "Coverage", "beneficiary": {"identifier": {"system": "urn:mrn", "value": "m-2"}}},
        {"resourceType": "Observation", "subject": {"reference": "Patient/2"}, "identifier": [{"value": "m-1"}]},
        {"resourceType": "Task", "for": {"identifier": {"system": "urn:payer", "value": "1"}}},
    ]
    every = [*reversed(THEIRS.values()), *others, ALICE]
    if apart:
        for number, one in enumerate(every):
            stored(output, [one, BOB], task=f"t{number}")
    else:
        stored(output, every)
    purge(output, destination="general", patients_path=patients_file(tmp_path, name))
    assert [one for one in lines(output) if one not in others] == []
    assert [one for one in others if one not in lines(output)] == []


# ── killed, and tried again ──


class KilledError(BaseException):
    """As a kill: nothing may catch it."""


def killed_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    """Let the store die at one of its next steps."""
    counted: Iterator[int] = iter(range(steps))

    def stepping(call: Any) -> Any:
        def step(*args: Any) -> Any:
            if next(counted, None) is None:
                raise KilledError
            return call(*args)

        return step

    for name in ("write", "remove_file"):
        patch.setattr(Files, name, stepping(getattr(Files, name)))


@pytest.mark.parametrize("by_patient", [True, False])
def test_a_certificate_covers_what_a_killed_try_destroyed(output: str, tmp_path: Path, by_patient: bool) -> None:  # noqa: FBT001
    """After a kill at any step the next try of the task certifies all that is gone, and leaves no plan behind."""
    what = {"destination": "general", "patients_path": patients_file(tmp_path, "m-1")} if by_patient else {}
    ended, after = False, 0
    while not ended:
        for task in ("a", "b"):
            stored(output, [ALICE, BOB], task=task)
        searches = put(Path(f"{output}/{GENERAL}/_redox/dag_id=pull/run_id=r/a/searches.ndjson".removeprefix("file://")), "")
        put(searches, '{"key": "m-1"}\n{"key": "m-2"}\n')
        before = {f"{output}/{name}": text for name, text in left(output).items()}
        with pytest.MonkeyPatch.context() as patch:
            killed_after(after, patch)
            try:
                purge(output, run=f"r{after}", **what)
                ended = True
            except KilledError:
                after += 1
        if not ended:
            told = purge(output, run=f"r{after - 1}", **what)
            assert told["status"] == "destroyed"
            certificate = json.loads(Path(told["url"].removeprefix("file://")).read_text())
            now = {f"{output}/{name}": text for name, text in left(output).items()}
            gone = {url for url, text in before.items() if now.get(url) != text and not url.endswith("manifest.json")}
            manifests = set() if by_patient else {url for url in before if url.endswith("manifest.json")}
            told_of = {one["url"] for one in certificate["files"]}
            assert told_of & before.keys() == gone | manifests
            assert not told_of & now.keys() - before.keys()
        assert {one["status"] for one in certificates(output)} == {"destroyed"}
        for path in Path(output.removeprefix("file://")).iterdir():
            shutil.rmtree(path)
    assert after > 4


def test_a_killed_plan_of_another_run_is_named_and_stays(output: str) -> None:
    """Another run does not speak for it: the plan stays, and the certificate names it."""
    stored(output, [ALICE], task="a")
    stored(output, [ALICE], task="b")
    with pytest.MonkeyPatch.context() as patch:
        killed_after(2, patch)
        with pytest.raises(KilledError):
            purge(output, run="monday")
    (plan,) = (name for name in files(output) if name.endswith(".planned.json"))
    told = purge(output, run="tuesday")
    certificate = json.loads(Path(told["url"].removeprefix("file://")).read_text())
    assert certificate["plans_of_others"] == [f"{output}/{plan}"]
    assert told["counts"]["destroyed"] == 3
    assert plan in files(output)


def test_a_retry_after_the_end_says_that_nothing_is_left(output: str, tmp_path: Path) -> None:
    """A try that was killed after its certificate is repeated without an error, and certifies nothing twice."""
    stored(output, [ALICE, BOB])
    what = {"destination": "general", "patients_path": patients_file(tmp_path, "m-1")}
    assert purge(output, **what)["status"] == "destroyed"
    assert purge(output, **what)["status"] == "nothing"
    assert len(certificates(output)) == 1
    with pytest.raises(AirflowFailException, match="nothing names any"):
        purge(output, run="another", **what)


# ── everything else that lies there ──

SENT = (
    '{"index":0,"what":"m","outcome":"accepted","hash":"h","data_model":"Notes","facts":{"uri":"redox-fhir-upload://1"}}\n'
)
KINDS: dict[str, tuple[str, str, str]] = {
    # where, what becomes of it in a purge by age or owner, what in one by patient
    "a manifest": (f"{GENERAL}/_redox/dag_id=pull/run_id=r/u/manifest.json", "destroyed", "kept"),
    "a checkpoint": (f"{GENERAL}/_redox/dag_id=pull/run_id=r/v/checkpoint", "destroyed", "destroyed"),
    "a staged part": (f"{GENERAL}/_redox/dag_id=pull/run_id=r/v/staged/ab/v.Patient.00000.ndjson", "destroyed", "destroyed"),
    "a list so far": (f"{GENERAL}/_redox/dag_id=pull/run_id=r/v/searches.so-far.ndjson", "destroyed", "destroyed"),
    "half a manifest": (
        f"{GENERAL}/_redox/dag_id=pull/run_id=r/v/.manifest.json.0a1b2c3d.partial",
        "destroyed",
        "destroyed",
    ),
    "half a document": (
        f"{GENERAL}/type=DocumentFile/dag_id=pull/run_id=r/.v.DocumentFile.00000.pdf.0a1b2c3d.partial",
        "destroyed",
        "destroyed",
    ),
    "half a line of a send": (
        f"{GENERAL}/type=DataModelPost/dag_id=pull/run_id=r/.p.DataModelPost.00000.ndjson.0a1b2c3d.partial",
        "destroyed",
        "destroyed",
    ),
    "a document that no list names": (
        f"{GENERAL}/type=DocumentFile/dag_id=pull/run_id=r/w.DocumentFile.00000.pdf",
        "destroyed",
        "destroyed",
    ),
    "a stored answer of somebody else": (
        f"{GENERAL}/type=Response/dag_id=pull/run_id=r/x.Response.00000.json",
        "destroyed",
        "kept",
    ),
    "a line of a send": (
        f"{GENERAL}/type=DataModelPost/dag_id=pull/run_id=r/p.DataModelPost.00000.ndjson",
        "reduced",
        "kept",
    ),
    "a line of a request": (f"{GENERAL}/_redox/dag_id=pull/run_id=r/q/sent-00000.json", "reduced", "kept"),
    "a batch's results": (f"{GENERAL}/_redox/dag_id=pull/run_id=r/s/batch/0001/000001.00.results.ndjson", "reduced", "kept"),
    "a batch's intents": (f"{GENERAL}/_redox/dag_id=pull/run_id=r/s/batch/0001/000001.00.intents.json", "kept", "kept"),
    "a batch's plan": (f"{GENERAL}/_redox/dag_id=pull/run_id=r/s/batch/0001/plan.json", "kept", "kept"),
    "a watermark": (f"{GENERAL}/_redox/watermarks/dag_id=pull/t.ab.json", "kept", "kept"),
    "a message of an inbox": ("inbox/date=2026-01-01/message.json", "kept", "kept"),
    "a ledger's entry": ("ledger/0a/entry.json", "kept", "kept"),
    "a record of disclosures": ("date=2026-01-01/dag_id=pull/run_id=r/t.try1.ab.ndjson", "kept", "kept"),
}


@pytest.mark.parametrize("by_patient", [True, False])
def test_what_becomes_of_every_kind_of_file(output: str, tmp_path: Path, by_patient: bool) -> None:  # noqa: FBT001
    """Each kind of file that lies below a root: destroyed, reduced to hashes and outcomes, or kept."""
    stored(output, [ALICE])
    root = Path(output.removeprefix("file://"))
    for where, _, _ in KINDS.values():
        put(root / where, "{}" if "manifest" in where else SENT)
    what = {"destination": "general", "patients_path": patients_file(tmp_path, "m-1")} if by_patient else {}
    told = purge(output, **what)
    certified = {
        one["url"]: one["what"] for one in json.loads(Path(told["url"].removeprefix("file://")).read_text())["files"]
    }
    for name, (where, by_age, for_patient) in KINDS.items():
        wanted = for_patient if by_patient else by_age
        assert (root / where).exists() is (wanted != "destroyed"), name
        assert certified.get(f"{output}/{where}", "kept") == wanted, name


def test_the_command_fails_where_nothing_is(output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped root, a name and a file of patients fail by the option's name, and nothing is made."""
    stored(output, [ALICE])

    def run(*arguments: str) -> tuple[int, str]:
        return main(["purge", "--older-than", "0", "--yes", *arguments]), capsys.readouterr().err

    status, said = run("--root", f"{output}s", "--everything")
    assert (status, f"--root: there is nothing at {output}s; did you mean out?" in said) == (1, True)
    assert not Path(f"{output}s".removeprefix("file://")).exists()
    status, said = run("--root", output, "--destination", "general", "--patients", patients_file(tmp_path, "m-9"))
    assert (status, "--patients: nothing names any of its 1 patients" in said) == (1, True)
    assert "--on-empty 'succeed'" in said
    status, said = run("--root", f"{output}s", "--everything", "--on-empty", "succeed")
    assert (status, "There was nothing to destroy" in said) == (0, True)
