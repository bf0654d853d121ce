"""`sample`: a part of a result without persons, for development. The sandbox serves it with `--data`."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from airflow_provider_redox.cli.words import UsageError, say
from airflow_provider_redox.protocol.deidentify import RESOURCE_TYPES, Deidentifier
from airflow_provider_redox.protocol.patients import patients_of_body
from airflow_provider_redox.storage.reading import parse_manifest

_NAMELESS = "by identifier alone"
"""Stands for a patient without a logical ID, who is never chosen: a sample has references by ID only."""


def run(options: argparse.Namespace) -> int:
    """Write the sample."""
    folder = Path(options.folder)
    if folder.exists() and any(folder.iterdir()):
        raise UsageError("--folder: is not empty; nothing is overwritten")
    without = Deidentifier(secrets.token_bytes(32), datetime.now(UTC).year)
    chosen = _chosen(options.manifest, options.patients, without)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    counts: dict[str, int] = {}
    with ExitStack() as stack:
        files: dict[str, Any] = {}
        for resource, patients in _resources(options.manifest):
            kind = str(resource["resourceType"])
            if patients <= chosen and kind in RESOURCE_TYPES:
                file = files.get(kind) or files.setdefault(kind, stack.enter_context(_new(folder / f"{kind}.ndjson")))
                file.write(msgspec.json.encode(without.resource(resource)) + b"\n")
                counts[kind] = counts.get(kind, 0) + 1
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "nothing"
    say(f"Wrote {told} of {len(chosen)} patients. Look at it before you give it away: a rule of thumb is no expert.")
    return 0


def _chosen(manifests: list[str], most: int, without: Deidentifier) -> frozenset[str]:
    """Choose patients by chance: those whose new IDs come first."""
    found = {one for _, patients in _resources(manifests) for one in patients if one != _NAMELESS}
    return frozenset(sorted(found, key=lambda one: without.new_id("Patient", one))[:most])


def _resources(manifests: list[str]) -> Iterator[tuple[dict[str, Any], frozenset[str]]]:
    """Give the resources of results, each with the patients that it is about; answers of Data Models are none."""
    for place in manifests:
        for _, line in parse_manifest(place).resources(None):
            resource = msgspec.json.decode(line)
            if isinstance(resource, dict) and "resourceType" in resource and "Meta" not in resource:
                named = patients_of_body(line)
                yield resource, frozenset(one if isinstance(one, str) else _NAMELESS for one in named)


def _new(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
