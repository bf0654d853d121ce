"""What a receiver counts, in the text format of Prometheus. Names of feeds and outcomes; no ID, no path."""

from __future__ import annotations

from collections import Counter

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counts of one process."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self._within: Counter[float] = Counter()
        self._count = 0
        self._seconds = 0.0
        self.bytes = 0

    def stored(self, seconds: float, size: int) -> None:
        """Count a message that lies in the inbox, and how long that took."""
        self.bytes += size
        self._count += 1
        self._seconds += seconds
        for bound in BUCKETS:
            if seconds <= bound:
                self._within[bound] += 1
                break

    def text(self, *, pending_bytes: int, healthy: bool) -> str:
        """Give all of them."""
        return "\n".join((*self._requests(), *self._storage(), *_gauges(pending_bytes, healthy=healthy), ""))

    def _requests(self) -> list[str]:
        name = "redox_receiver_requests_total"
        lines = [f"# HELP {name} Requests, by feed and what became of them.", f"# TYPE {name} counter"]
        for (feed, outcome), count in sorted(self.requests.items()):
            lines.append(f'{name}{{feed="{feed}",outcome="{outcome}"}} {count}')
        return lines

    def _storage(self) -> list[str]:
        name = "redox_receiver_storage_seconds"
        lines = [f"# HELP {name} Time to put a message into the inbox.", f"# TYPE {name} histogram"]
        within = 0
        for bound in BUCKETS:
            within += self._within[bound]
            lines.append(f'{name}_bucket{{le="{bound}"}} {within}')
        lines += [
            f'{name}_bucket{{le="+Inf"}} {self._count}',
            f"{name}_sum {self._seconds:.6f}",
            f"{name}_count {self._count}",
        ]
        size = "redox_receiver_stored_bytes_total"
        return [
            *lines,
            f"# HELP {size} Bytes of messages that lie in the inbox.",
            f"# TYPE {size} counter",
            f"{size} {self.bytes}",
        ]


def _gauges(pending_bytes: int, *, healthy: bool) -> list[str]:
    pending, up = "redox_receiver_pending_bytes", "redox_receiver_storage_up"
    return [
        f"# HELP {pending} Bytes of messages that are being taken.",
        f"# TYPE {pending} gauge",
        f"{pending} {pending_bytes}",
        f"# HELP {up} Whether the inbox could be written the last time.",
        f"# TYPE {up} gauge",
        f"{up} {int(healthy)}",
    ]
