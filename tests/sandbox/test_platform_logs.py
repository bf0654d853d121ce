"""The Platform API: what became of a message."""

from __future__ import annotations

import time
from typing import Any

import pytest

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
