"""What a search tells OpenLineage: which FHIR endpoint it read, which folders it wrote, how much; no patient.

Made of the manifest alone. Used only where `apache-airflow-providers-openlineage` is installed and asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_redox.storage.urls import place_of

_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}


@dataclass(slots=True)
class Folder:
    """A folder of files of a result."""

    namespace: str
    name: str
    rows: int = 0
    files: int = 0

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count a file."""
        self.rows += entry["count"]
        self.files += 1


def search_lineage(manifest: Any) -> Any:
    """Give the `OperatorLineage` of a search, None without OpenLineage or without a manifest.

    Inputs are the types of the FHIR endpoint that were read: the one that was searched, and those that came with it.
    Outputs are folders, named as OpenLineage's specification of names says, with their statistics.
    """
    if not isinstance(manifest, Mapping) or "request" not in manifest:
        return None
    try:
        from airflow.providers.common.compat.openlineage.facet import (
            Dataset,
            OutputDataset,
            OutputStatisticsOutputDatasetFacet,
        )
        from airflow.providers.openlineage.extractors import OperatorLineage
    except ImportError:
        return None
    outputs = [
        OutputDataset(
            namespace=folder.namespace,
            name=folder.name,
            outputFacets={
                "outputStatistics": OutputStatisticsOutputDatasetFacet(rowCount=folder.rows, fileCount=folder.files)
            },
        )
        for folder in folders(manifest)
    ]
    return OperatorLineage(inputs=[Dataset(namespace, name) for namespace, name in sources(manifest)], outputs=outputs)


def sources(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give namespace and name of each type that was read: the server, then `fhir/R4/<slug>/<environment>/<type>`."""
    parts = urlsplit(manifest["request"])
    base, _, searched = parts.path.strip("/").removesuffix("/_search").rpartition("/")
    for kind in dict.fromkeys([searched, *(entry["type"] for entry in manifest["output"])]):
        yield f"{parts.scheme}://{parts.netloc}", f"{base}/{kind}"


def folders(manifest: Mapping[str, Any]) -> list[Folder]:
    """Give the folders of the files of resources, in the manifest's order.

    The run's own folder is left out of the name: a lineage that named it would know each dataset for one run only.
    """
    found: dict[str, Folder] = {}
    for entry in manifest["output"]:
        url = entry["url"].rpartition("/")[0].partition("/run_id=")[0]
        found.setdefault(url, Folder(*dataset_name(url))).add(entry)
    return list(found.values())


def dataset_name(url: str) -> tuple[str, str]:
    """Give namespace and name of a folder: `s3://bucket` and the key, `gs://bucket` and the key, `file` and the path."""
    place = place_of(url)
    if place.kind == "file":
        return "file", place.path
    return f"{_SCHEMES.get(place.scheme, place.scheme)}://{place.bucket}", place.key
