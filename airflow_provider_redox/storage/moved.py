"""What earlier tries left where the destination or the environment had another name: the connection was changed meanwhile.

A line that says what was sent lies below the destination and the environment, by their names in the connection. So a later
try that finds none in its own place looks into the others, before it takes its message for new.
"""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.layout import Layout


def elsewhere(files: Files, layout: Layout, url: str) -> Iterator[str]:
    """Give the places that a file of this layout would have below every other destination and environment."""
    root, rest = layout.root.rstrip("/"), url.removeprefix(layout.base)
    for destination in files.folders(root):
        if destination.startswith("destination="):
            for environment in files.folders(f"{root}/{destination}"):
                place = f"{root}/{destination}/{environment}{rest}"
                if environment.startswith("environment=") and place != url:
                    yield place
