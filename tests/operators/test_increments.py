"""Windows and increments: nothing falls between two runs, and nothing is empty by accident."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.downstream import read_resources, read_searches
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxEmptyResultError
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.operators.arguments import whole
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox

CODE = {"code": "4548-4"}
ALL = 162


@pytest.fixture
def pull(redox_connection: Sandbox, output: str) -> Callable[..., Any]:
    """Run one search in a DAG run."""

    def run(run_id: str = "first", *, run_type: str = "scheduled", interval: Any = (None, None), **arguments: Any) -> Any:
        asked = {"resource_type": "Observation", "search_params": CODE, "output_path": output, **arguments}
        ti = SimpleNamespace(dag_id="nightly", run_id=run_id, task_id="pull", map_index=-1)
        context = {
            "ti": ti,
            "dag_run": SimpleNamespace(run_type=run_type),
            "data_interval_start": interval[0],
            "data_interval_end": interval[1],
        }
        return RedoxFhirSearchOperator(task_id="pull", **asked).execute(context)

    return run


def bounds(sandbox: Sandbox, name: str = "_lastUpdated") -> list[list[str]]:
    """What each search asked of the date."""
    return [parse_qs(entry["body"]).get(name, []) for entry in sandbox.ledger("/_search")]


def found(manifest: dict[str, Any]) -> int:
    return sum(entry["count"] for entry in manifest["output"])


def write_observation() -> None:
    """Let the hospital's record grow by one."""
    patient = {"resourceType": "Patient", "id": "p", "identifier": [{"system": "urn:test", "value": "new"}]}
    observation = {
        "resourceType": "Observation",
        "id": "o",
        "status": "final",
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "4548-4"}]},
    }
    entries = [{"resource": resource} for resource in (observation, patient)]
    bundle = {"resourceType": "Bundle", "type": "message", "entry": entries}
    RedoxHook().fhir_writeback("Observation", "$observation-create", bundle, destination="general")


def test_a_window_asks_from_its_start_to_its_end(pull: Callable[..., Any], sandbox: Sandbox):
    """The start within, the end without."""
    window = ("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z")
    manifest = pull(window=window)
    assert bounds(sandbox) == [["ge2020-01-01T00:00:00.000Z", "lt2020-01-02T00:00:00.000Z"]]
    assert found(manifest) == 0
    assert manifest["extension"]["windows"] == [["2020-01-01T00:00:00.000Z", "2020-01-02T00:00:00.000Z"]]


@pytest.mark.parametrize("parts", [1, 4, 7])
def test_a_long_window_in_parts_holds_the_same(pull: Callable[..., Any], sandbox: Sandbox, parts: int):
    """Side by side, without a gap or an overlap at the seams: each resource once."""
    now = datetime.now(UTC)
    window = (now - timedelta(days=60), now)
    manifest = pull(window=window, window_parts=parts)
    ids = [resource["id"] for resource in read_resources(manifest)]
    assert len(ids) == len(set(ids)) == ALL
    assert manifest["extension"]["duplicates"] == 0
    asked = sorted(tuple(one) for one in {tuple(pair) for pair in bounds(sandbox)})
    assert len(asked) == parts
    assert [lower.removeprefix("ge") for lower, _ in asked[1:]] == [upper.removeprefix("lt") for _, upper in asked[:-1]]
    if parts > 1:
        assert sum(line["count"] for line in read_searches(manifest)) == ALL


def test_another_date_may_be_bounded_with_a_warning(
    pull: Callable[..., Any], sandbox: Sandbox, caplog: pytest.LogCaptureFixture
):
    """Only by name, as it loses resources that lack it."""
    pull(window=("2020-01-01", "2030-01-01"), window_param="date")
    assert bounds(sandbox, "date")[0] == ["ge2020-01-01T00:00:00.000Z", "lt2030-01-01T00:00:00.000Z"]
    assert "resources that lack it are not found" in caplog.text
    assert "ends in the future" in caplog.text


@pytest.mark.parametrize(
    "arguments",
    [
        {"window": ("2020-01-01", "2999-01-01")},
        {"window": ("2998-01-01", "2999-01-01")},
        {"window": [("2020-01-01", "2020-02-01"), ("2020-02-01", "2999-02-01")]},
        {"search_params": {**CODE, "_lastUpdated": "ge2999-01-01"}},
        {"search_params": {**CODE, "_lastUpdated": ["ge2020-01-01", "lt2999-01-01"]}},
        {"search_params": [CODE, {**CODE, "_lastUpdated": "gt2999"}]},
        {"since": "last_success", "run_type": "backfill", "interval": ("2020-01-01", "2999-01-01")},
    ],
    ids=str,
)
def test_a_question_that_comes_too_early_is_refused(pull: Callable[..., Any], sandbox: Sandbox, arguments: Any):
    """What has not happened cannot be found: an error before the first request, and no empty success."""
    with pytest.raises(AirflowFailException, match="the future") as raised:
        pull(**arguments)
    assert "data_interval_start" in str(raised.value)
    assert "2999" not in str(raised.value)
    assert sandbox.ledger("/_search") == []


def test_a_window_that_ends_in_a_moment_may_be_tried_again(pull: Callable[..., Any]):
    """The clocks of scheduler and worker differ by seconds: Airflow's retries help."""
    now = datetime.now(UTC)
    with pytest.raises(RedoxConfigError, match="future") as raised:
        pull(window=(now - timedelta(days=1), now + timedelta(minutes=1)))
    assert raised.value.retryable


@pytest.mark.parametrize("how", [{}, {"since": "last_success"}, {"window": ("2020-01-01", "2020-01-02")}])
def test_nothing_is_a_failure_where_the_author_says_so(pull: Callable[..., Any], output: str, how: Any):
    """By default nothing is an answer; with `on_empty` it is an error that a retry may heal, and no result is visible."""
    nobody = {"search_params": {"code": "no-such-code"}, **how}
    assert found(pull(**nobody, run_id="quiet")) == 0
    for _ in range(2):  # the second is Airflow's next try, which must ask again
        with pytest.raises(RedoxEmptyResultError, match="found nothing") as raised:
            pull(**nobody, on_empty="fail", run_id="loud")
        assert raised.value.retryable
    assert not list(Path(output.removeprefix("file://")).rglob("*loud*/**/manifest.json"))
    if not how:
        assert found(pull(run_id="loud", on_empty="fail")) == ALL


def test_on_empty_has_two_values(pull: Callable[..., Any]):
    """Anything else is refused by its name."""
    with refused("on_empty: must be one of succeed, fail"):
        pull(on_empty="warn")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"window": ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z")}, "CronDataIntervalTimetable"),
        ({"window": (None, None)}, "CronDataIntervalTimetable"),
        ({"window": ("2020-01-01", "2020-01-02"), "since": "last_success"}, "since, window: give one of them"),
        ({"window": ("2020-01-01", "2020-01-02"), "search_params": {"_lastUpdated": "gt2020"}}, "leave it out there"),
        ({"since": "last_success", "search_params": {"_lastUpdated": "gt2020"}}, None),
        ({"since": "yesterday"}, "since: must be one of last_success"),
        ({"window_parts": 3}, "window_parts: needs a window"),
    ],
)
def test_what_cannot_be_meant_is_an_error_before_the_first_request(
    pull: Callable[..., Any], sandbox: Sandbox, arguments: dict[str, Any], said: str | None
):
    """And not an empty result."""
    if said is None:
        pull(**arguments)  # the first run has nothing to bound
        before = len(sandbox.ledger("/_search"))
        with pytest.raises(AirflowFailException, match="leave it out there"):
            pull("second", **arguments)
        assert len(sandbox.ledger("/_search")) == before
        return
    with refused(said):
        pull(**arguments)
    assert sandbox.ledger("/_search") == []


def test_a_run_goes_on_where_the_last_success_ended(pull: Callable[..., Any], sandbox: Sandbox):
    """The first run asks for everything, the next from five minutes before what was seen last."""
    first = pull("first", since="last_success")
    assert (found(first), first["extension"]["since"]) == (ALL, None)
    second = pull("second", since="last_success")
    begin = datetime.fromisoformat(first["extension"]["watermark"]) - timedelta(minutes=5)
    assert datetime.fromisoformat(second["extension"]["since"]) == begin
    assert bounds(sandbox)[-1] == [f"ge{second['extension']['since']}"]
    assert found(second) == second["extension"]["repeats"] >= 1
    write_observation()
    third = pull("third", since="last_success", line_format="envelope")
    assert found(third) - third["extension"]["repeats"] == 1
    lines = Path(third["output"][0]["url"].removeprefix("file://")).read_text().splitlines()
    marks = [json.loads(line)["repeat"] for line in lines]
    assert marks.count(False) == 1


def test_what_one_run_after_another_gives_is_all_of_it(pull: Callable[..., Any], sandbox: Sandbox):
    """Whatever arrives between two runs is in one of them."""
    ids: set[str] = set()
    for number in range(4):
        manifest = pull(f"run-{number}", since="last_success")
        ids |= {resource["id"] for resource in read_resources(manifest)}
        write_observation()
    last = pull("last", since="last_success")
    ids |= {resource["id"] for resource in read_resources(last)}
    assert len(ids) == ALL + 4


def test_a_run_that_failed_moves_nothing(pull: Callable[..., Any], sandbox: Sandbox):
    """The watermark is moved when the result is visible, not before."""
    pull("first", since="last_success")
    write_observation()
    sandbox.fault("status", status=403, times=1, match={"path": "/Observation"})
    with pytest.raises(AirflowFailException):
        pull("second", since="last_success")
    third = pull("third", since="last_success")
    assert found(third) - third["extension"]["repeats"] == 1


def test_a_run_that_is_cleared_asks_again_for_what_it_asked_for(pull: Callable[..., Any], sandbox: Sandbox):
    """Else its result, which is replaced, would lose what the later runs have gone past; the watermark does not go back."""
    pull("first", since="last_success")
    write_observation()
    second = pull("second", since="last_success")
    pull("third", since="last_success")
    again = pull("second", since="last_success")
    assert again["extension"]["since"] == second["extension"]["since"]
    assert found(again) == found(second)
    assert found(pull("first", since="last_success")) == ALL + 1
    assert pull("fourth", since="last_success")["extension"]["since"] > second["extension"]["since"]


def test_what_a_run_gave_itself_is_no_repeat(pull: Callable[..., Any], sandbox: Sandbox):
    """A run that is tried again, or cleared, marks what it marked at first."""
    assert pull("first", since="last_success")["extension"].get("repeats", 0) == 0
    assert pull("first", since="last_success")["extension"].get("repeats", 0) == 0
    write_observation()
    second = pull("second", since="last_success")
    assert pull("second", since="last_success")["extension"]["repeats"] == second["extension"]["repeats"] < found(second)


def test_a_backfill_asks_for_its_own_interval_and_leaves_the_watermark(pull: Callable[..., Any], sandbox: Sandbox):
    """Without an interval it is an error that names the cure."""
    pull("first", since="last_success")
    interval = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC))
    backfill = pull("backfill", run_type="backfill", interval=interval, since="last_success")
    assert bounds(sandbox)[-1] == ["ge2020-01-01T00:00:00.000Z", "lt2020-01-02T00:00:00.000Z"]
    assert "since" not in backfill["extension"]
    with pytest.raises(AirflowFailException, match="CronDataIntervalTimetable"):
        pull("other", run_type="backfill", interval=(interval[0], interval[0]), since="last_success")
    assert pull("second", since="last_success")["extension"]["since"] is not None


def test_each_search_and_each_destination_has_a_watermark_of_its_own(pull: Callable[..., Any], sandbox: Sandbox):
    """Another destination, other parameters: from the beginning."""
    pull("first", since="last_success", destination="general")
    assert pull("second", since="last_success", destination="lakeside")["extension"]["since"] is None
    other = pull("third", since="last_success", destination="general", search_params={"code": "8867-4"})
    assert other["extension"]["since"] is None
    assert pull("fourth", since="last_success", destination="general")["extension"]["since"] is not None


def test_the_record_says_nothing_of_what_was_asked(pull: Callable[..., Any], output: str):
    """A reader of the bucket finds a time and a run, no parameter and no ID."""
    manifest = pull("first", since="last_success", search_params={"code": "4548-4", "patient": "Canary-1"})
    assert found(manifest) == 0
    manifest = pull("second", since="last_success")
    (record,) = Path(output.removeprefix("file://")).rglob("watermarks/**/*.json")
    text = f"{record} {record.read_text()}"
    assert "4548" not in text
    assert not any(resource["id"] in text for resource in read_resources(manifest))
    assert json.loads(record.read_text())["watermark"] == manifest["extension"]["watermark"]


def test_a_record_that_is_damaged_costs_a_full_pull(pull: Callable[..., Any], output: str):
    """Nothing is lost by it; one that another key has sealed loses its marks only."""
    pull("first", since="last_success")
    (record,) = Path(output.removeprefix("file://")).rglob("watermarks/**/*.json")
    whole = json.loads(record.read_text())
    record.write_text(json.dumps({**whole, "known": "v1.AAAA"}))
    second = pull("second", since="last_success")
    assert (second["extension"]["since"] is not None, second["extension"].get("repeats", 0)) == (True, 0)
    record.write_text('{"watermark": "soon"}')
    assert found(pull("third", since="last_success")) == ALL


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_an_envelope_says_where_a_resource_came_from(pull: Callable[..., Any], compression: str | None):
    """And holds the resource as the server sent it; who reads it gets the resource."""
    raw = pull("raw", compression=compression)
    enveloped = pull("enveloped", line_format="envelope", compression=compression)
    assert list(read_resources(raw)) == list(read_resources(enveloped))
    content = Path(enveloped["output"][0]["url"].removeprefix("file://")).read_bytes()
    line = json.loads((gzip.decompress(content) if compression else content).splitlines()[0])
    resource = line.pop("resource")
    assert line == {
        "destination": "general",
        "environment": "Development",
        "type": "Observation",
        "id": resource["id"],
        "version": resource["meta"]["versionId"],
        "lastUpdated": resource["meta"]["lastUpdated"],
        "search": "0",
        "run": "enveloped",
        "pulledAt": enveloped["transactionTime"],
        "repeat": False,
    }


def test_a_file_ends_before_it_grows_too_large(pull: Callable[..., Any], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """max_file_bytes bounds each file; together they are the result."""
    monkeypatch.setitem(RedoxFhirSearchOperator.rules, "max_file_bytes", whole(1000))
    sandbox.settings(page_size=5)
    manifest = pull(max_file_bytes=20_000)
    sizes = [Path(entry["url"].removeprefix("file://")).stat().st_size for entry in manifest["output"]]
    assert len(sizes) > 3
    assert max(sizes) <= 20_000
    assert found(manifest) == ALL
