"""One manifest of several: the files of all, and of each what must stay apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage.reading import parse_manifest, stored

_KEPT = ("watermark", "since", "windows", "searches", "failed", "documents")
"""What is told of each by itself."""

_SUMMED = ("pages", "requests", "duplicates", "failed", "documents")


def merged(manifests: Iterable[Any]) -> dict[str, Any]:
    """Merge manifests; see `downstream.merge_manifests`."""
    if isinstance(manifests, Mapping | str):
        raise RedoxConfigError("manifests: must be a list of manifests; this is one")
    whole = [_checked(number, one) for number, one in enumerate(manifests) if one is not None]
    if not whole:
        raise RedoxConfigError("manifests: there is none; the tasks before gave no manifest")
    formats = {one["extension"].get("line_format") for one in whole}
    if len(formats) > 1:
        raise RedoxConfigError("manifests: some have lines in envelopes (line_format) and some have not; merge them apart")
    sums = {name: sum(_number(one, name) for one in whole) for name in _SUMMED}
    times = [one.get("transactionTime") for one in whole]
    return {
        "transactionTime": _earliest(times),
        "request": whole[0].get("request", "") if len({one.get("request") for one in whole}) == 1 else "",
        "requiresAccessToken": False,
        "output": [file for one in whole for file in one["output"]],
        "error": [file for one in whole for file in one.get("error", [])],
        "extension": {
            **{name: total for name, total in sums.items() if total or name in ("pages", "requests")},
            "watermark": _earliest([one["extension"].get("watermark") for one in whole]),
            **({"line_format": formats.pop()} if formats != {None} else {}),
            "merged": [_apart(one) for one in whole],
        },
    }


def _checked(number: int, manifest: Any) -> dict[str, Any]:
    try:
        content = manifest if isinstance(manifest, Mapping) else stored(manifest)
        parse_manifest(content)
    except RedoxConfigError as error:
        fault = str(error).removeprefix("manifest: ")
    else:
        if "merged" in (content.get("extension") or {}):
            fault = "is one that was merged already"
        else:
            return {**content, "extension": dict(content.get("extension") or {})}
    raise RedoxConfigError(f"manifests[{number}]: {fault}")


def _apart(one: Mapping[str, Any]) -> dict[str, Any]:
    extension = one["extension"]
    told = {name: extension[name] for name in _KEPT if name in extension}
    resources = sum(file.get("count") or 0 for file in one["output"])
    return {
        "request": one.get("request", ""),
        "transactionTime": one.get("transactionTime"),
        "watermark": None,
        **told,
        "resources": resources,
    }


def _number(one: Mapping[str, Any], name: str) -> int:
    value = one["extension"].get(name)
    return value if isinstance(value, int) else 0


def _earliest(instants: list[Any]) -> str | None:
    """Instants of one form, as our manifests have them, compare as text."""
    return min(instants) if all(isinstance(one, str) for one in instants) else None
