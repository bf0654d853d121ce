"""The button "Results": the folder of a task's files in the console of the cloud that keeps them.

Made from the URLs of a manifest, which hold destination, DAG, run and task, never a patient. Airflow 3 calls this on the
worker when the task has ended, and keeps the link as an XCom; Airflow 2 calls it in the webserver at the click.
"""

from __future__ import annotations

from collections.abc import Mapping
from os.path import commonprefix
from typing import Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink

from airflow_provider_redox.storage.urls import place_of

CONSOLES = {
    "s3": "https://console.aws.amazon.com/s3/buckets/{bucket}?prefix={query}",
    "s3a": "https://console.aws.amazon.com/s3/buckets/{bucket}?prefix={query}",
    "gs": "https://console.cloud.google.com/storage/browser/{bucket}/{path}",
    "gcs": "https://console.cloud.google.com/storage/browser/{bucket}/{path}",
}
"""By scheme. None for Azure: its portal's addresses want the subscription and the account, which no URL of a file tells."""


class ResultsLink(BaseOperatorLink):
    """Leads to the folder that holds all files of a task's result; to nothing where no console shows them."""

    name = "Results"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002  (Airflow's signature)
        """Give the address, empty when there is none: a local path, a result without files, a task that failed."""
        from airflow.providers.common.compat.sdk import XCom

        returned = XCom.get_value(key="return_value", ti_key=ti_key)
        return console_url(result_urls(returned))


def result_urls(returned: Any) -> list[str]:
    """Give the URLs of the files in what a task returned, a manifest or a summary."""
    if not isinstance(returned, Mapping):
        return []
    found = [returned.get("results_url")]
    for part in ("output", "error"):
        entries = returned.get(part)
        found += [entry.get("url") for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
    return [url for url in found if isinstance(url, str)]


def console_url(urls: list[str]) -> str:
    """Give the address of the folder that holds all these files, or an empty text."""
    folder = commonprefix([url.rpartition("/")[0] + "/" for url in urls]).rpartition("/")[0]
    place = place_of(folder)
    if place.scheme not in CONSOLES or not place.bucket:
        return ""
    path = f"{place.key}/" if place.key else ""
    return CONSOLES[place.scheme].format(
        bucket=quote(place.bucket, safe=""), query=quote(path, safe=""), path=quote(path.rstrip("/"))
    )
