"""The shape of a result's lines: a resource as the server sent it, or in an envelope that says where it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from airflow_provider_redox.checks import one_of
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.pages import Resource, read_line

RAW, ENVELOPE = "raw", "envelope"


class _Envelope(msgspec.Struct):
    """A line of `line_format="envelope"`, without its resource."""

    destination: str
    environment: str
    type: str
    id: str | None
    version: str | None
    lastUpdated: str | None  # noqa: N815  (FHIR's name)
    search: str
    run: str
    pulledAt: str  # noqa: N815  (as lastUpdated)
    repeat: bool


class _Content(msgspec.Struct):
    resource: msgspec.Raw


_contents = msgspec.json.Decoder(_Content)


@dataclass(frozen=True, slots=True)
class Shape:
    """How lines are written.

    :param run: the DAG run.
    """

    line_format: str
    destination: str
    environment: str
    run: str

    @property
    def told(self) -> str | None:
        """What a manifest says of it; None of lines as they came."""
        return None if self.line_format == RAW else self.line_format

    def resource(self, line: bytes) -> Resource:
        """Read a line back."""
        return read_line(self.content(line))

    def content(self, line: bytes) -> bytes:
        """Give what a line holds, as it came."""
        return line if self.line_format == RAW else unwrapped(line)

    def lines(
        self, resources: Iterable[Resource], *, search: str, pulled_at: Callable[[], str], repeats: set[int]
    ) -> list[bytes]:
        """Give the lines of resources; `repeats` are the places of those that an earlier run had given too."""
        if self.line_format == RAW:
            return [resource.line for resource in resources]
        moment = pulled_at()
        return [self._enveloped(resource, search, moment, place in repeats) for place, resource in enumerate(resources)]

    def _enveloped(self, resource: Resource, search: str, pulled_at: str, repeat: bool) -> bytes:  # noqa: FBT001
        head = _Envelope(
            self.destination,
            self.environment,
            resource.type,
            resource.id,
            resource.version,
            resource.last_updated,
            search,
            self.run,
            pulled_at,
            repeat,
        )
        return msgspec.json.encode(head)[:-1] + b',"resource":' + resource.line + b"}"


def unwrapped(line: bytes) -> bytes:
    """Take the resource out of its envelope, as the bytes that came."""
    return bytes(_contents.decode(line).resource)


def checked_format(line_format: object) -> str:
    """Check the argument. Raises `RedoxConfigError`."""
    if line_format not in (RAW, ENVELOPE):
        raise RedoxConfigError(one_of("line_format", line_format, (RAW, ENVELOPE)))
    return str(line_format)
