"""The page on waiting: its tables and its numbers are those of the code."""

from __future__ import annotations

import inspect

from airflow_provider_redox.protocol.delivery import GRACE, KNOWN, SHOWN, Fate, Rules
from airflow_provider_redox.protocol.platform import PAGE, PAGES_AT_MOST, SETTLED_AFTER
from airflow_provider_redox.sensors.delivery import RedoxDeliverySensor
from airflow_provider_redox.sensors.waiting import LISTED
from airflow_provider_redox.triggers.polling import REQUESTS
from tests.docs.pages import code_words, rows, text
from tests.protocol.test_looking import Redox, looked, many


def test_the_page_on_waiting_says_what_each_status_means():
    """Each status of the table ends a wait as the page says, and there is no other."""
    shown = {row[0]: row[1] for row in rows("delivery", "Status of a log")}
    said = {word for cell in shown for word in code_words(cell)}
    assert said == set(KNOWN)
    assert shown["not found"].startswith("Not yet, for five minutes")
    assert GRACE == 300
    assert {status: Rules().fate(status, new=True) for status in (*KNOWN, "HTTP 404")} == {
        "succeeded": Fate.DELIVERED,
        "filtered": Fate.LOST,
        "failed": Fate.OPEN,
        "pending": Fate.OPEN,
        "HTTP 404": Fate.OPEN,
    }
    assert Rules(failed="fail").fate("failed", new=True) is Fate.LOST
    assert Rules(filtered="accept").fate("filtered", new=True) is Fate.DELIVERED
    assert Rules().fate("HTTP 404", new=False) is Fate.LOST


def test_the_page_on_waiting_says_what_it_costs():
    """The requests of one look are those of the table; the limits in the text are the code's."""
    for waits, requests in rows("delivery", "Waits"):
        redox = Redox(many("mine", int(waits.replace(",", ""))))
        looked(redox, redox.logs)
        assert redox.requests == int(requests)
    assert REQUESTS == 60
    assert "**60 requests a minute**" in text("delivery")
    assert SETTLED_AFTER == 150
    assert "150 seconds after its end" in text("delivery")
    assert (SHOWN, LISTED, PAGE * PAGES_AT_MOST) == (50, 1000, 1000)


def test_the_arguments_on_the_page_on_waiting_are_the_sensors():
    """The ways to say what is waited for are arguments of the sensor."""
    shown = {word for row in rows("delivery", "Argument") for word in code_words(row[0])}
    assert shown == {"results_path", "log_ids", "destination", "window"}
    assert shown <= set(inspect.signature(RedoxDeliverySensor).parameters)
