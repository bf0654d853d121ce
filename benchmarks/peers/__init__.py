"""The clients, each as its own user would write it: a module with `drain(job)`, which writes NDJSON by resource type.

What a client does by itself (paging, signing in, retrying, writing files) it does by itself. What it leaves to its user is
written here the usual way, with the standard library's json.
"""

from __future__ import annotations

from dataclasses import dataclass

OURS, BASE = "ours", "urllib3_orjson"


@dataclass(frozen=True, slots=True)
class Peer:
    """A client in the tables.

    :param title: what the tables call it.
    :param packages: the distributions whose versions are shown.
    :param quick: it is fast enough to take part in every round.
    :param grows: it takes part in the long drain.
    :param patient: it waits for a minute before it tries again.
    """

    title: str
    packages: tuple[str, ...]
    quick: bool = False
    grows: bool = False
    patient: bool = False


PEERS: dict[str, Peer] = {
    OURS: Peer("RedoxFhirSearchOperator", ("airflow-provider-redox", "urllib3", "msgspec"), quick=True, grows=True),
    BASE: Peer("urllib3 + orjson by hand (base)", ("urllib3", "orjson"), quick=True, grows=True),
    "requests_json": Peer("requests by hand", ("requests",), quick=True, grows=True),
    "http_operator": Peer("Airflow HttpOperator", ("apache-airflow-providers-http",), grows=True),
    "dlt_rest": Peer("dlt RESTClient", ("dlt", "jsonpath-ng"), grows=True),
    "smart_fetch_crawl": Peer("smart-fetch crawl", ("smart-fetch", "cumulus-fhir-support"), grows=True, patient=True),
    "pyrate": Peer("fhir-pyrate", ("fhir-pyrate",)),
    "fhirpy_async": Peer("fhirpy, async", ("fhirpy",)),
    "fhirpy_sync": Peer("fhirpy, sync", ("fhirpy",)),
    "smart_client": Peer("fhirclient", ("fhirclient",)),
    "docs_snippet": Peer("the docs' snippet, pasted", ("requests", "PyJWT")),
}
"""All clients, by the name of their module."""
