"""NDJSON by resource type, for clients that leave writing to their user."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO


class Files:
    """A context manager; one file for each resource type, made at its first resource."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, TextIO] = {}

    def __enter__(self) -> Files:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in self._open.values():
            file.close()

    def write(self, resource: Mapping[str, Any]) -> None:
        """Write one resource, parsed, as a line."""
        self.write_line(resource["resourceType"], json.dumps(resource))

    def write_all(self, resources: Iterable[Mapping[str, Any]]) -> None:
        """Write some."""
        for resource in resources:
            self.write(resource)

    def write_line(self, kind: str, line: str) -> None:
        """Write one resource that is JSON already."""
        if kind not in self._open:
            self._open[kind] = (self._folder / f"{kind}.ndjson").open("w", encoding="utf-8")
        self._open[kind].write(line + "\n")
