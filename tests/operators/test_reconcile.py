"""`on_ambiguous="reconcile"`: what the Platform API's logs say settles what nobody knows, or leaves it open."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.client import driver
from airflow_provider_redox.client.pacing import Address, Steps, Ticket, Wanted
from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxConfigError, RedoxTransportError
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.operators.sends.sending import LONGEST
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from airflow_provider_redox.protocol.platform import SETTLED_AFTER
from airflow_provider_redox.sandbox.names import ENVIRONMENT_ID, QUIET_ENVIRONMENT_ID
from airflow_provider_redox.storage.send_record import SendRecord
from tests.support.sandbox import Sandbox

MESSAGE = {
    "Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"},
    "Patient": {"Identifiers": [{"ID": "MRN-7731"}], "Demographics": {"LastName": "Quillfeather"}},
}


class Clock:
    """One clock for us and the sandbox, which waits move on."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox, self.offset = sandbox, 0.0

    def now(self) -> float:
        return time.time() + self.offset

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.offset += seconds
            self.sandbox.settings(clock_offset=self.offset)


class Hurried(Address):
    """The way to the sandbox, on whose turns nobody waits longer than this test's clock says."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock.now)
        self._moves = clock.sleep

    def enter(self, wanted: Wanted, wake: Callable[[], None]) -> Steps[Ticket]:
        steps = super().enter(wanted, wake)
        while True:
            try:
                self._moves(next(steps))
            except StopIteration as end:
                return end.value
            yield 0.0


@pytest.fixture(autouse=True)
def clock(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of this test: no wait takes time."""
    made, real = Clock(sandbox), driver.real_environment

    def environment(retry: RetryPolicy | None = None, **options: Any) -> Any:
        few = RetryPolicy(attempts=2, base=0.01, rate_limit_floor=0)
        return replace(real(retry or few, **options), now=made.now, monotonic=made.now)

    monkeypatch.setattr(driver, "real_environment", environment)
    address = Hurried(made)
    monkeypatch.setattr(driver, "address_of", lambda _origin: address)
    monkeypatch.setitem(SyncClient.__init__.__kwdefaults__, "sleep", made.sleep)
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_PLATFORM", sandbox.connection_json)
    return made


@pytest.fixture
def post(execute: Callable[..., Any], output: str) -> Callable[..., Any]:
    """Post as one try of one task instance."""

    def run(try_number: int = 1, **arguments: Any) -> Any:
        given = {"payload": MESSAGE, "results_path": output, "on_ambiguous": "reconcile"}
        operator = RedoxDataModelPostOperator(task_id="post", **{**given, "platform_conn_id": "redox_platform", **arguments})
        return execute(operator, try_number=try_number, max_tries=9)

    return run


def lose(sandbox: Sandbox, when: str = "after", **order: Any) -> None:
    """Let the answer to the next message be lost, after it has arrived or before."""
    sandbox.fault("drop", when=when, match={"path": "/endpoint"}, **order)


def refused(post: Callable[..., Any], *arguments: Any, **options: Any) -> AirflowFailException:
    """Post, and give the error that says that nobody knows."""
    with pytest.raises(AirflowFailException) as caught:
        post(*arguments, **options)
    assert isinstance(caught.value.__cause__, RedoxAmbiguousOutcomeError)
    assert "Quillfeather" not in str(caught.value)
    return caught.value


def line(output: str) -> dict[str, Any]:
    (file,) = Path(output.removeprefix("file://")).rglob("*.ndjson")
    return json.loads(file.read_text())


def messages(sandbox: Sandbox) -> list[dict[str, Any]]:
    return [one for one in sandbox.control("GET", "messages") if one["kind"] == "notification"]


@pytest.fixture
def traffic(redox_connection: Sandbox) -> None:
    """Something else has gone to the destination lately, so that its environment is known to be the right one."""
    from airflow_provider_redox.hooks.redox import RedoxHook

    observation = {"resourceType": "Observation", "id": "o1", "status": "final", "code": {"text": "pulse"}}
    bundle = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": observation}]}
    RedoxHook().fhir_writeback("Observation", "$observation-create", bundle)


def searches(sandbox: Sandbox) -> list[dict[str, Any]]:
    return sandbox.ledger("/logs/search/metadata")


def test_what_arrived_is_accepted_with_its_log_id(post: Callable[..., Any], output: str, sandbox: Sandbox):
    """One log that fits: the message is there, it is not sent again, and its line has the log ID."""
    lose(sandbox)
    summary = post()
    assert summary["log_ids"] == messages(sandbox)[0]["logs"] == line(output)["log_ids"]
    assert (summary["accepted"], line(output)["outcome"], len(messages(sandbox))) == (1, "accepted", 1)
    assert len(searches(sandbox)) == 1


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 502}, {"kind": "html"}, {"kind": "truncate"}])
def test_whatever_hid_the_answer_the_logs_tell(post: Callable[..., Any], sandbox: Sandbox, fault: dict[str, Any]):
    """A gateway's error, a page of HTML and half an answer are all unknown, and all settled."""
    sandbox.fault(when="after", match={"path": "/endpoint"}, **fault)
    assert post()["accepted"] == 1
    assert len(messages(sandbox)) == 1


@pytest.mark.usefixtures("traffic")
def test_what_did_not_arrive_is_sent_again_once(post: Callable[..., Any], clock: Clock, sandbox: Sandbox):
    """No log when one would be there: the same bytes are sent again, and not before."""
    lose(sandbox, "before")
    begun = clock.now()
    assert post()["accepted"] == 1
    assert clock.now() - begun >= SETTLED_AFTER
    bodies = [entry["body"] for entry in sandbox.ledger("/endpoint")]
    assert len(bodies) == 2
    assert len(set(bodies)) == 1
    assert len(messages(sandbox)) == 1


@pytest.mark.usefixtures("traffic")
def test_it_is_not_sent_a_third_time(post: Callable[..., Any], output: str, sandbox: Sandbox):
    """When the repetition is lost too, the try ends, and the next one asks again."""
    lose(sandbox, "before", times=2)
    refused(post)
    assert len(sandbox.ledger("/endpoint")) == 2
    assert line(output)["outcome"] == "ambiguous"
    assert post(2)["accepted"] == 1
    assert len(messages(sandbox)) == 1


@pytest.mark.usefixtures("traffic")
def test_a_repetition_that_arrived_is_found_by_a_later_try(post: Callable[..., Any], clock: Clock, sandbox: Sandbox):
    """A repetition is looked for when it was sent, not when the message was begun first."""
    lose(sandbox, "before")
    lose(sandbox, "after")
    refused(post, platform_conn_id="redox_platform")
    clock.sleep(86_400)
    assert post(2)["log_ids"] == messages(sandbox)[0]["logs"]
    assert len(messages(sandbox)) == 1


def test_a_late_sending_of_what_could_not_leave_is_found(
    post: Callable[..., Any], clock: Clock, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """A message whose first try could not leave carries that try's time, and is looked for at its own."""
    with monkeypatch.context() as unreachable:
        unreachable.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps({**sandbox.connection, "port": 9}))
        with pytest.raises(RedoxTransportError):
            post()
    clock.sleep(3000)
    lose(sandbox)
    assert post(2)["accepted"] == 1
    assert len(messages(sandbox)) == 1


def test_a_resend_that_could_not_leave_hides_no_open_send(
    post: Callable[..., Any], clock: Clock, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """What was open before a resend that was asked for stays open, and is looked for where it was."""
    lose(sandbox)
    refused(post, on_ambiguous="fail")
    clock.sleep(86_400)
    with monkeypatch.context() as unreachable:
        unreachable.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps({**sandbox.connection, "port": 9}))
        with pytest.raises(RedoxTransportError):
            post(2, on_ambiguous="resend")
    assert post(3)["log_ids"] == messages(sandbox)[0]["logs"]
    assert len(messages(sandbox)) == 1


def test_a_message_that_waited_for_its_turn_is_found(post: Callable[..., Any], sandbox: Sandbox):
    """A rate limit before it left moves the window."""
    sandbox.fault("status", status=429, headers={"Retry-After": "290"}, match={"path": "/endpoint"})
    lose(sandbox)
    assert post()["accepted"] == 1
    assert len(messages(sandbox)) == 1


def test_a_killed_try_is_settled_by_the_next(
    post: Callable[..., Any], clock: Clock, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """Of a try that was killed between send and answer only its beginning is known; its log lies within what is possible."""
    real = SyncClient._send

    def killed(client: SyncClient, request: Any) -> Any:
        happened = real(client, request)
        if request.url.endswith("/endpoint") and happened.status == 200:
            raise KeyboardInterrupt
        return happened

    # It was busy first, so that the message left long after the try began.
    sandbox.fault("status", status=429, headers={"Retry-After": "290"}, match={"path": "/endpoint"})
    with monkeypatch.context() as deadly, pytest.raises(KeyboardInterrupt):
        deadly.setattr(SyncClient, "_send", killed)
        post()
    clock.sleep(60)
    assert post(2)["log_ids"] == messages(sandbox)[0]["logs"]
    (asked,) = [json.loads(entry["body"]) for entry in searches(sandbox)]
    assert asked["createdBefore"] < time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock.now() + LONGEST))


def test_a_try_that_ended_is_looked_for_until_then(post: Callable[..., Any], clock: Clock, sandbox: Sandbox):
    """What was sent by somebody else after it had ended is no candidate."""
    lose(sandbox)
    refused(post, on_ambiguous="fail")
    clock.sleep(600)
    sandbox_post(sandbox)
    clock.sleep(600)
    assert post(2)["log_ids"] == messages(sandbox)[0]["logs"]
    assert len(messages(sandbox)) == 2


def test_what_a_later_try_settled_stays_settled(post: Callable[..., Any], output: str, sandbox: Sandbox):
    """The line is then as that of a message whose answer came: a third try knows the message by its hash."""
    lose(sandbox)
    refused(post, on_ambiguous="fail")
    before = line(output)
    summary = post(2)
    assert {name: line(output)[name] for name in ("hash", "sent_at")} == {name: before[name] for name in ("hash", "sent_at")}
    assert post(3) == {**summary, "already_sent": 1}


def test_what_cannot_be_stored_is_accepted_all_the_same(
    post: Callable[..., Any], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """The answer came: a store that fails afterwards neither fails the task nor lets the next try send."""
    real = SendRecord._note

    def note(record: SendRecord, outcome: str, **facts: Any) -> None:
        if outcome == "accepted":
            raise PermissionError
        real(record, outcome, **facts)

    monkeypatch.setattr(SendRecord, "_note", note)
    summary = post()
    assert (summary["accepted"], summary["results_url"]) == (1, None)
    refused(post, 2, on_ambiguous="fail")
    assert post(3)["log_ids"] == summary["log_ids"]
    assert len(messages(sandbox)) == 1


def test_two_logs_that_fit_leave_it_open(post: Callable[..., Any], clock: Clock, output: str, sandbox: Sandbox):
    """Where the logs do not tell it from others nothing is sent, and the error names the log IDs."""
    others = [sandbox_post(sandbox), sandbox_post(sandbox)]
    lose(sandbox, "before")
    said = str(refused(post))
    assert all(log in said for log in others)
    assert (len(sandbox.ledger("/endpoint")), line(output)["outcome"]) == (3, "ambiguous")


def sandbox_post(sandbox: Sandbox) -> str:
    """Send the same event to the same destination as somebody else. Gives its log ID."""
    from airflow_provider_redox.hooks.redox import RedoxHook

    message = {**MESSAGE, "Patient": {"Demographics": {"LastName": "Somebody"}}}
    return RedoxHook().post_data_model(message).log_ids[0]


@pytest.mark.parametrize("environment", [QUIET_ENVIRONMENT_ID, ENVIRONMENT_ID])
def test_an_environment_that_shows_nothing_is_not_believed(
    post: Callable[..., Any], output: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, environment: str
):
    """Where no log to the destination is to be seen at all, that of the message is not known to be missing."""
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_PLATFORM", json.dumps(sandbox.with_extra(environment_id=environment)))
    lose(sandbox, "before" if environment == ENVIRONMENT_ID else "after")
    said = str(refused(post))
    assert "extra.environment_id of the Platform connection may name another one" in said
    assert (len(sandbox.ledger("/endpoint")), line(output)["outcome"]) == (1, "ambiguous")


KEYED = {"correlation_key": "/Patient/Identifiers/0/ID"}


def payload_searches(sandbox: Sandbox) -> list[dict[str, Any]]:
    return [json.loads(entry["body"]) for entry in sandbox.ledger("/logs/search/payloads")]


def test_by_default_no_payload_is_searched(post: Callable[..., Any], sandbox: Sandbox):
    """Metadata only, and nothing of the message goes to the Platform API."""
    lose(sandbox)
    post()
    assert payload_searches(sandbox) == []
    assert "MRN-7731" not in json.dumps([entry["body"] for entry in searches(sandbox)])


def test_a_correlation_key_tells_the_message_from_anothers(post: Callable[..., Any], sandbox: Sandbox):
    """Of several logs of one time, the one that holds the author's key is the message's."""
    others = [sandbox_post(sandbox), sandbox_post(sandbox)]
    lose(sandbox)
    summary = post(**KEYED, correlation_category="MRN")
    assert summary["log_ids"] == messages(sandbox)[-1]["logs"]
    assert summary["log_ids"][0] not in others
    (asked,) = payload_searches(sandbox)
    assert asked["searchTerms"] == [{"value": "MRN-7731", "category": "MRN"}]
    assert "MRN-7731" not in json.dumps([[entry["path"], entry["query"]] for entry in sandbox.ledger()])


def test_anothers_log_is_not_taken_for_the_messages(post: Callable[..., Any], output: str, sandbox: Sandbox):
    """One log fits by time and event, and it is another's: the message is neither taken for it nor sent again."""
    other = sandbox_post(sandbox)
    lose(sandbox, "before")
    said = str(refused(post, **KEYED))
    assert "the search may not see that key" in said
    assert other not in said
    assert (len(messages(sandbox)), line(output)["outcome"]) == (1, "ambiguous")


@pytest.mark.usefixtures("traffic")
def test_a_key_that_no_log_holds_and_no_log_besides_is_not_there(post: Callable[..., Any], sandbox: Sandbox):
    """Neither the key nor any log of the event and time: it did not arrive, and is sent again."""
    lose(sandbox, "before")
    assert post(**KEYED)["accepted"] == 1
    assert len(messages(sandbox)) == 1


def batch_file(folder: Path, *mrns: str) -> str:
    lines = [json.dumps({**MESSAGE, "Patient": {"Identifiers": [{"ID": mrn}]}}) for mrn in mrns]
    (folder / "messages.ndjson").write_text("\n".join(lines))
    return f"file://{folder}/messages.ndjson"


def test_of_a_file_a_message_that_is_there_makes_a_search_believed(
    post: Callable[..., Any], sandbox: Sandbox, tmp_path: Path
):
    """Others' logs fit, and none holds the key: the search finds the first message, so the second is not there."""
    sandbox.fault("drop", when="before", match={"path": "/endpoint", "body": '"MRN-2"'})
    path = batch_file(tmp_path, "MRN-1", "MRN-2")
    summary = post(payload=None, payload_path=path, segment_size=1, **KEYED)
    assert summary["accepted"] == 2
    assert [one["body"]["Patient"]["Identifiers"][0]["ID"] for one in messages(sandbox)] == ["MRN-1", "MRN-2"]
    asked = [[term["value"] for term in search["searchTerms"]] for search in payload_searches(sandbox)]
    assert asked[-1] == ["MRN-1"]
    assert {term for terms in asked[:-1] for term in terms} == {"MRN-2"}


def test_of_a_file_whose_first_message_is_not_found_none_is_believed_missing(
    post: Callable[..., Any], sandbox: Sandbox, tmp_path: Path
):
    """The search does not even find what is known to be there: whether the other arrived stays open."""
    sandbox.fault("drop", when="before", match={"path": "/endpoint", "body": '"MRN-2"'})
    sandbox.fault("body", body={"logs": []}, match={"path": "/search/payloads"}, times=9)
    path = batch_file(tmp_path, "MRN-1", "MRN-2")
    with pytest.raises(AirflowFailException, match="may or may not have arrived"):
        post(payload=None, payload_path=path, segment_size=1, **KEYED)
    assert [one["body"]["Patient"]["Identifiers"][0]["ID"] for one in messages(sandbox)] == ["MRN-1"]


def test_a_key_without_the_role_leaves_it_open(post: Callable[..., Any], sandbox: Sandbox):
    """Redox lets some roles only look into payloads; a 403 says nothing of the message."""
    lose(sandbox)
    sandbox.fault("status", status=403, match={"path": "/search/payloads"}, times=9)
    assert "could not be asked" in str(refused(post, **KEYED))
    assert len(sandbox.ledger("/endpoint")) == 1


def test_a_message_without_its_correlation_key_is_not_sent(post: Callable[..., Any], sandbox: Sandbox):
    """What reconciling would need is looked for before the message leaves."""
    with pytest.raises(AirflowFailException, match="correlation_key: /Visit/ID leads to no text"):
        post(correlation_key="/Visit/ID")
    assert sandbox.ledger("/endpoint") == []


def test_of_several_destinations_each_has_its_log(post: Callable[..., Any], sandbox: Sandbox):
    """A message to two destinations is there when both have it."""
    lose(sandbox)
    summary = post(destinations=["general", "lakeside"])
    assert summary["log_ids"] == messages(sandbox)[0]["logs"]
    assert len(searches(sandbox)) == 2


def test_what_is_at_one_of_two_destinations_stays_open(post: Callable[..., Any], sandbox: Sandbox):
    """Half a message is neither there nor not, so nothing is sent again."""
    other = sandbox_post(sandbox)
    lose(sandbox, "before")
    assert other in str(refused(post, destinations=["general", "lakeside"]))
    assert len(sandbox.ledger("/endpoint")) == 2


def test_other_events_and_destinations_do_not_count(post: Callable[..., Any], sandbox: Sandbox):
    """Only a log of the same event at the same destination is a candidate."""
    from airflow_provider_redox.hooks.redox import RedoxHook

    hook = RedoxHook()
    hook.post_data_model(MESSAGE, destination="lakeside")
    hook.post_data_model({"Meta": {"DataModel": "PatientAdmin", "EventType": "PatientUpdate"}, "Patient": {}})
    lose(sandbox, "before")
    assert post()["accepted"] == 1
    assert len(messages(sandbox)) == 4 - 1


def test_the_logs_of_all_pages_count(post: Callable[..., Any], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """A candidate on the second page is one."""
    from airflow_provider_redox.protocol import platform

    others = [sandbox_post(sandbox) for _ in range(3)]
    monkeypatch.setattr(platform, "PAGE", 2)
    lose(sandbox, "before")
    said = str(refused(post))
    assert all(log in said for log in others)
    assert [entry["query"] for entry in searches(sandbox)] == ["_count=2", "_count=2&_cursor=2"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"kind": "status", "status": 401}, "401"),
        ({"kind": "status", "status": 403}, "403"),
        ({"kind": "status", "status": 400}, "400"),
        ({"kind": "body", "body": '{"payload": {}}'}, "no list of logs"),
        ({"kind": "html"}, "not JSON"),
    ],
)
@pytest.mark.parametrize("on_refused", ["fail", "record"])
def test_a_search_that_fails_leaves_it_open(
    post: Callable[..., Any], output: str, sandbox: Sandbox, fault: dict[str, Any], words: str, on_refused: str
):
    """The Platform API's error is not the message's: nothing is sent, nothing is called refused, and the error says so."""
    lose(sandbox, "before")
    sandbox.fault(match={"path": "/platform/"}, times=9, **fault)
    with pytest.raises(
        (AirflowFailException, RedoxAmbiguousOutcomeError), match="the Platform API could not be asked"
    ) as caught:
        post(on_refused=on_refused)
    assert words in str(caught.value)
    assert (len(sandbox.ledger("/endpoint")), line(output)["outcome"]) == (1, "ambiguous")


def test_a_search_that_may_be_asked_later_lets_airflow_retry(post: Callable[..., Any], sandbox: Sandbox):
    """A Platform API that is down for a while is asked again by Airflow's retry, which sends nothing by itself."""
    lose(sandbox)
    sandbox.fault("status", status=500, match={"path": "/platform/"}, times=4)
    for try_number in (1, 2):
        with pytest.raises(RedoxAmbiguousOutcomeError, match="could not be asked"):
            post(try_number)
    assert post(3)["log_ids"] == messages(sandbox)[0]["logs"]
    assert len(messages(sandbox)) == 1


def test_a_search_that_fails_gives_no_key_back(post: Callable[..., Any], sandbox: Sandbox, tmp_path: Path):
    """In a ledger the key of a message that is open stays taken."""
    shared = {"idempotency_key": "/Patient/Identifiers/0/ID", "ledger_path": f"file://{tmp_path}/ledger"}
    lose(sandbox)
    sandbox.fault("status", status=401, match={"path": "/platform/"}, times=9)
    refused(post, **shared)
    elsewhere = f"file://{tmp_path}/elsewhere"
    task = RedoxDataModelPostOperator(task_id="other", payload=MESSAGE, results_path=elsewhere, **shared)
    with pytest.raises(RedoxAmbiguousOutcomeError, match="post/-1 began to send this message"):
        task.execute({"ti": _other()})
    assert len(messages(sandbox)) == 1


def _other() -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(dag_id="pull", run_id="another", task_id="other", map_index=-1)


def test_another_message_is_not_looked_for(post: Callable[..., Any], sandbox: Sandbox):
    """A payload that changed since cannot be told from the one that is open."""
    lose(sandbox)
    refused(post, on_ambiguous="fail")
    refused(post, 2, payload={**MESSAGE, "Patient": {}})
    assert searches(sandbox) == []
    assert len(messages(sandbox)) == 1


def test_another_place_is_another_message(post: Callable[..., Any], sandbox: Sandbox):
    """The same payload to other destinations, in the same folder, is not the one that was accepted."""
    post(destinations=["general", "lakeside"])
    with pytest.raises(AirflowFailException, match="another message"):
        post(2, destinations=["general", "9c1a9c57-0f0c-4d4b-9a8d-0e6f2a1f3b77"])
    assert len(messages(sandbox)) == 1


def test_a_refusal_with_a_log_is_no_acceptance(post: Callable[..., Any], sandbox: Sandbox):
    """What was refused for one destination and has a log all the same is not settled by that log."""
    body = json.dumps({"Meta": {"Errors": [{"ID": 7, "Module": "Send"}], "Logs": [{"ID": "log-1"}]}})
    sandbox.fault("body", body=body, match={"path": "/endpoint"})
    with pytest.raises(AirflowFailException, match="log-1"):
        post()
    refused(post, 2)
    assert searches(sandbox) == []


def test_a_log_for_one_of_two_is_not_sent_again(post: Callable[..., Any], sandbox: Sandbox):
    """One log for two destinations: a blind search for the other one must not double it at the first."""
    sandbox.fault("body", body={"Meta": {"Logs": [{"ID": "log-1"}]}}, match={"path": "/endpoint"})
    for try_number in (1, 2):
        refused(post, try_number, destinations=["general", "lakeside"])
    assert searches(sandbox) == []
    assert len(messages(sandbox)) == 1


def test_one_log_does_not_stand_for_two_destinations(post: Callable[..., Any], sandbox: Sandbox):
    """A search that shows the same log for each destination proves nothing of either."""
    lose(sandbox)
    found = {"payload": {"results": [{"id": "log-1", "status": "pending"}]}}
    sandbox.fault("body", body=found, match={"path": "/logs/search"}, times=None)
    assert "one log for several destinations" in str(refused(post, destinations=["general", "lakeside"]))
    assert len(messages(sandbox)) == 1


@pytest.mark.parametrize("where", ["operator", "connection"])
def test_the_platform_connection_may_stand_in_the_connection(
    post: Callable[..., Any], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, where: str
):
    """`platform_conn_id` of the operator, or else the connection's `extra.platform_conn_id`."""
    if where == "connection":
        monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(sandbox.with_extra(platform_conn_id="redox_platform")))
    lose(sandbox)
    assert post(platform_conn_id="redox_platform" if where == "operator" else None)["accepted"] == 1


@pytest.mark.parametrize("lacks", ["platform_conn_id", "environment_id", "the connection"])
def test_without_a_platform_connection_nothing_is_sent(
    post: Callable[..., Any], output: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, lacks: str
):
    """What reconciling needs is looked at before the message leaves."""
    arguments = {"platform_conn_id": None} if lacks == "platform_conn_id" else {}
    own = json.dumps(sandbox.with_extra(platform_conn_id=None))
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", own)
    if lacks == "environment_id":
        monkeypatch.setenv("AIRFLOW_CONN_REDOX_PLATFORM", json.dumps(sandbox.with_extra(environment_id=None)))
    if lacks == "the connection":
        monkeypatch.delenv("AIRFLOW_CONN_REDOX_PLATFORM")
    with pytest.raises(Exception, match=lacks if lacks != "the connection" else "redox_platform") as caught:
        post(**arguments)
    if lacks != "the connection":
        assert isinstance(caught.value.__cause__, RedoxConfigError)
    assert sandbox.ledger("/endpoint") == []
    assert not Path(output.removeprefix("file://")).exists()
