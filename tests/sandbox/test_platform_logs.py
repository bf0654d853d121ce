"""The Platform API: what became of a message."""

from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_provider_redox.sandbox.names import QUIET_ENVIRONMENT_ID

from .conftest import Client, message


def send(redox: Client, model: str = "Device", event: str = "New", destination: str = "general") -> str:
    answer = redox.post(message(model, event, redox.extra["destinations"][destination]["id"]))
    return answer.json()["Meta"]["Logs"][0]["ID"]


def look(redox: Client, log: str) -> Any:
    return redox.call("GET", f"/platform/v1/organizations/{redox.extra['organization_id']}/logs/{log}")


def find(redox: Client, body: Any = None, query: str = "") -> Any:
    path = f"/platform/v1/environments/{redox.extra['environment_id']}/logs/search/metadata{query}"
    return redox.call("POST", path, json=body or {})


def test_a_log_is_pending_and_then_final(redox: Client) -> None:
    """A new log is pending; after delivery_seconds it and its latest attempt have succeeded."""
    redox.settings(delivery_seconds=0.2)
    log = send(redox)
    first = look(redox, log).json()
    assert first["meta"] == {"version": "1.0.0"}
    result = first["payload"]["result"]
    assert (result["id"], result["status"], result["attempts"]["latest"]["status"]) == (log, "pending", "pending")
    assert (result["dataModel"], result["eventType"], result["type"]) == ("Device", "New", "send")
    assert result["destination"]["id"] == redox.extra["destinations"]["general"]["id"]
    time.sleep(0.25)
    result = look(redox, log).json()["payload"]["result"]
    assert (result["status"], result["attempts"]["latest"]["status"]) == ("succeeded", "succeeded")
    assert result["attempts"]["total"] == 1
    assert result["createdAt"] < result["updatedAt"]


def test_the_end_of_each_message_can_be_chosen(redox: Client) -> None:
    """final_status may be a list: messages end in its order, the last entry holds for all that follow."""
    redox.settings(delivery_seconds=0, final_status=["failed", "filtered", "succeeded"])
    logs = [send(redox) for _ in range(4)]
    ends = [look(redox, log).json()["payload"]["result"]["status"] for log in logs]
    assert ends == ["failed", "filtered", "succeeded", "succeeded"]


@pytest.mark.parametrize("path", ["organizations/100042/logs/unknown", "organizations/1/logs/{log}"])
def test_a_log_that_is_not_there_is_404(redox: Client, path: str) -> None:
    """An unknown log, and a known log in another organization, are not found."""
    assert redox.call("GET", f"/platform/v1/{path}".format(log=send(redox))).status_code == 404


def test_logs_are_found_by_what_they_are(redox: Client) -> None:
    """Data model, event type, destination and status filter the search; all have to fit."""
    redox.settings(delivery_seconds=0, final_status=["failed", "succeeded"])
    first, second = send(redox), send(redox, "Notes", "New", "lakeside")

    def found(**wanted: str) -> list[str]:
        return [row["id"] for row in find(redox, wanted).json()["payload"]["results"]]

    assert found() == [first, second]
    assert found(dataModel="Notes") == [second]
    assert found(eventType="New") == [first, second]
    assert found(destinationId=redox.extra["destinations"]["lakeside"]["id"]) == [second]
    assert found(status="failed") == [first]
    assert found(status="failed", dataModel="Notes") == []


def test_logs_are_found_by_when_they_were_made(redox: Client) -> None:
    """The filter createdAfter includes its instant, createdBefore does not."""
    log = send(redox)
    created = look(redox, log).json()["payload"]["result"]["createdAt"]
    assert len(find(redox, {"createdAfter": created}).json()["payload"]["results"]) == 1
    assert len(find(redox, {"createdBefore": created}).json()["payload"]["results"]) == 0
    assert len(find(redox, {"createdAfter": "2999-01-01"}).json()["payload"]["results"]) == 0


def test_the_search_has_pages_with_relative_links(redox: Client) -> None:
    """_count is 50 at most; next is relative to /platform/v1 and absent on the last page."""
    sent = [send(redox) for _ in range(5)]
    page, seen = find(redox, query="?_count=2").json(), []
    while True:
        seen += [row["id"] for row in page["payload"]["results"]]
        link = page["meta"]["page"]["links"].get("next")
        if not link:
            break
        assert link.startswith("/environments/")
        page = redox.call("POST", f"/platform/v1{link}", json={}).json()
    assert seen == sent


@pytest.mark.parametrize(
    ("body", "query"),
    [({"patient": "canary"}, ""), ({"createdAfter": "canary"}, ""), ({}, "?_count=51"), ({}, "?_cursor=canary"), ([1], "")],
)
def test_an_unknown_filter_is_refused(redox: Client, body: Any, query: str) -> None:
    """Unknown filters, times that are none, and counts above 50 get 400; their values are not repeated."""
    answer = find(redox, body, query)
    assert answer.status_code == 400
    assert "canary" not in answer.text


def test_another_environment_is_not_found(redox: Client) -> None:
    """Logs belong to the environment in the path."""
    assert redox.call("POST", "/platform/v1/environments/other/logs/search/metadata", json={}).status_code == 404


def test_attempts_fail_before_the_last_one(redox: Client) -> None:
    """With failing_attempts a log is pending, then failed while it is tried again, and then what final_status says."""
    redox.settings(delivery_seconds=0.3, failing_attempts=1)
    log, seen = send(redox), []
    while not seen or seen[-1] != "succeeded":
        seen.append(look(redox, log).json()["payload"]["result"]["status"])
    assert list(dict.fromkeys(seen)) == ["pending", "failed", "succeeded"]
    assert look(redox, log).json()["payload"]["result"]["attempts"]["total"] == 2


def test_a_log_may_appear_late(redox: Client) -> None:
    """Until log_delay is over a new log is not found, neither by its ID nor by a search."""
    redox.settings(log_delay=30)
    log = send(redox)
    assert (look(redox, log).status_code, find(redox).json()["payload"]["results"]) == (404, [])
    redox.settings(clock_offset=31)
    assert look(redox, log).status_code == 200


def test_others_send_too(redox: Client) -> None:
    """Ordered logs lie between one's own by age, go elsewhere, and have been there all the time."""
    log = send(redox)
    assert len(redox.control("POST", "logs", {"count": 3, "age": 60}).json()["ids"]) == 3
    found = find(redox).json()["payload"]["results"]
    assert [row["id"] for row in found][-1] == log
    assert sorted(row["createdAt"] for row in found) == [row["createdAt"] for row in found]
    assert redox.extra["destinations"]["general"]["id"] not in {row["destination"]["id"] for row in found[:3]}


def test_a_log_can_be_ended_by_hand(redox: Client) -> None:
    """PATCH logs gives a status to the named logs, or to all."""
    redox.settings(delivery_seconds=3600)
    first, second = send(redox), send(redox)
    redox.control("PATCH", "logs", {"status": "failed", "ids": [first]})
    ends = [look(redox, log).json()["payload"]["result"]["status"] for log in (first, second)]
    assert ends == ["failed", "pending"]
    redox.control("PATCH", "logs", {"status": "filtered"})
    assert {row["status"] for row in redox.control("GET", "logs").json()} == {"filtered"}


@pytest.mark.parametrize(
    ("method", "body"),
    [("POST", {"count": 0}), ("POST", {"canary": 1}), ("POST", []), ("PATCH", {"status": "lost"}), ("PATCH", {"ids": []})],
)
def test_an_order_of_logs_is_checked(redox: Client, method: str, body: Any) -> None:
    """An order that makes no sense is 400 and changes nothing."""
    assert redox.control(method, "logs", body).status_code == 400
    assert redox.control("GET", "logs").json() == []


def test_backfills_are_apart(redox: Client) -> None:
    """A log of a backfill is found only by who asks for dataMode backfill."""
    (log,) = redox.control("POST", "logs", {"data_mode": "backfill"}).json()["ids"]
    assert look(redox, log).status_code == 404
    path = f"/platform/v1/organizations/{redox.extra['organization_id']}/logs/{log}?dataMode=backfill"
    assert redox.call("GET", path).status_code == 200
    assert find(redox).json()["payload"]["results"] == []
    assert len(find(redox, {"dataMode": "backfill"}).json()["payload"]["results"]) == 1
    assert find(redox, {"dataMode": "other"}).status_code == 400


def test_payloads_are_searched_for_a_text(redox: Client) -> None:
    """A log is found whose message holds each text as a whole value; the answer is metadata all the same."""
    log, place = send(redox), redox.extra["destinations"]["general"]["id"]
    path = f"/platform/v1/environments/{redox.extra['environment_id']}/logs/search/payloads"
    for terms, found in (([place], [log]), ([place, "New"], [log]), ([place, "Old"], []), ([place[:8]], [])):
        answer = redox.call("POST", path, json={"searchTerms": [{"value": term} for term in terms]})
        assert [one["id"] for one in answer.json()["payload"]["results"]] == found
    assert redox.call("POST", path, json={}).status_code == 400


def test_another_environment_has_no_logs(redox: Client) -> None:
    """The quiet environment is known and shows nothing; an unknown one is not found."""
    send(redox)
    for environment, status in ((QUIET_ENVIRONMENT_ID, 200), ("none", 404)):
        answer = redox.call("POST", f"/platform/v1/environments/{environment}/logs/search/metadata", json={})
        assert answer.status_code == status
        assert not (answer.json()["payload"] or {}).get("results")
