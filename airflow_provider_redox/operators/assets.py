"""What a task's assets are told of its result, so that DAGs that are scheduled on them find it.

The extra of an asset event is stored in clear in the metadata database and shown in the UI: it holds counts and URLs, no
patient, and is bounded however many files a result has. The manifest itself is behind `manifest_url`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_URLS = 20
_TYPES = 50


def tell_assets(context: Context, manifest: Mapping[str, Any], *, manifest_url: str) -> None:
    """Put the result into the event of each asset among the task's outlets.

    On Airflow 2 these are datasets. An asset alias is left alone: it becomes an event only with an asset that the author
    names. Give the extra of an asset yourself, before or after, and what you gave stays beside ours.
    """
    events = context.get("outlet_events")
    outlets = context.get("outlets") or ()
    if events is None:
        return
    extra = event_extra(manifest, manifest_url=manifest_url)
    for outlet in outlets:
        if _is_asset(outlet):
            events[outlet].extra.update(extra)


def event_extra(manifest: Mapping[str, Any], *, manifest_url: str) -> dict[str, Any]:
    """Give the extra: the URL of the manifest, counts by type, and the first files' URLs.

    Its keys are none of a manifest's, so that nobody reads the first files for all of them.
    """
    output = manifest["output"]
    counts: Counter[str] = Counter()
    for entry in output:
        counts[entry["type"]] += entry["count"]
    return {
        "manifest_url": manifest_url,
        "transaction_time": manifest["transactionTime"],
        "watermark": manifest["extension"].get("watermark"),
        "counts": dict(counts.most_common(_TYPES)),
        "resources": counts.total(),
        "files": len(output),
        "urls": [entry["url"] for entry in output[:_URLS]],
    }


def _is_asset(outlet: Any) -> bool:
    """Say whether an outlet is an asset (3), a reference to one by name or URI (3), or a dataset (2); not an alias."""
    return hasattr(outlet, "uri") or type(outlet).__name__ == "AssetNameRef"
