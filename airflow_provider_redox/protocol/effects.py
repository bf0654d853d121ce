"""What a flow may ask its driver to do, and what it is told in return.

A flow is a generator. It yields one of the effects below and is sent the result; its return value is the
answer. The drivers in `client/` do the I/O, one blocking, one awaiting; nothing here does any.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias, TypeVar

from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.token import Claim, Held, Token

if TYPE_CHECKING:
    from airflow_provider_redox.protocol.disclosure import Disclosure

T = TypeVar("T")

_TRACE = re.compile(r"[A-Za-z0-9._:-]{1,80}")
_MEDIA_TYPE = re.compile(r"[a-z]{1,20}/[a-z0-9.+-]{1,60}")


@dataclass(frozen=True, slots=True)
class FileBody:
    """A body that holds a file, which is read while it is sent, not held in memory.

    :param open: opens the file at its start; called for each try, and what it gives is closed after it.
    :param size: the file's bytes; another number of them is an error.
    :param head: what goes before the file, and `tail` what goes after it.
    """

    open: Callable[[], BinaryIO] = field(repr=False)
    size: int
    head: bytes = b""
    tail: bytes = b""

    @property
    def length(self) -> int:
        """Bytes in all, the request's Content-Length."""
        return len(self.head) + self.size + len(self.tail)


class Intake(Protocol):
    """Where the body of a success goes while it comes, decoded, instead of into memory. JSON stays in memory.

    What it raises ends the flow as a `NotTakenError`.
    """

    @property
    def limit(self) -> int:
        """The bytes it takes at most."""

    def begin(self, headers: Mapping[str, str]) -> None:
        """Begin with a body, anew with each try."""

    def write(self, chunk: bytes) -> None:
        """Take what comes next."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `label` is what a log may say of it: method and path with the IDs left out.

    The body stands in `body` or, when it is a file, in `file`. `destination` is the slug or UUID of where it ends, None
    where that is Redox itself. The body of its answer goes `into` what is named there, if it is a success and no JSON.
    """

    method: str
    url: str = field(repr=False)
    label: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    file: FileBody | None = field(default=None, repr=False)
    destination: str | None = field(default=None, repr=False)
    into: Intake | None = field(default=None, repr=False)

    def with_headers(self, **headers: str) -> Request:
        """Give the request with further headers."""
        return replace(self, headers={**self.headers, **headers})


@dataclass(frozen=True, slots=True)
class RedoxResponse:
    """An answer: status, headers (names in lower case) and the whole decoded body in bytes."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def trace_id(self) -> str | None:
        """What Redox support asks for; None when the answer carries none."""
        return trace_in(self.headers)

    def json(self) -> Any:
        """Parse the body. Raises `RedoxProtocolError`, without the body, when it is not JSON or can be read in two ways."""
        try:
            return jsontext.parse_unique(self.body)
        except jsontext.AmbiguousError as error:
            raise RedoxProtocolError(f"HTTP {self.status} with a body that can be read in two ways: {error}") from None
        except ValueError as error:
            raise RedoxProtocolError(
                f"HTTP {self.status} with a body that is not JSON ({self._kind}, {len(self.body)} bytes): {error}"
            ) from None

    @property
    def _kind(self) -> str:
        stated = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return stated if _MEDIA_TYPE.fullmatch(stated) else "no known content type"


def trace_in(headers: Mapping[str, str]) -> str | None:
    """Give the trace ID of an answer, if it has the form of one: what a server sends may be anything."""
    stated = headers.get("redox-trace-id", "")
    return stated if _TRACE.fullmatch(stated) else None


class Stage(enum.Enum):
    """How far a request got that did not end in a whole answer."""

    UNSENT = "nothing was sent"
    UNTRUSTED = "the server's certificate was refused, nothing was sent"
    UNANSWERED = "sent, at least in part, and no answer came"
    CUT = "the answer was cut off"
    OVERSIZE = "the answer was larger than the limit"


@dataclass(frozen=True, slots=True)
class Failure:
    """No whole answer. `reason` is one sentence without addresses, headers or bodies."""

    stage: Stage
    reason: str
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


Happened: TypeAlias = RedoxResponse | Failure


@dataclass(frozen=True, slots=True)
class Send:
    """Send this, and tell what `Happened`."""

    request: Request
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Turn:
    """Wait for a place: on the way to the destination, then in the connection's share of the quota.

    Asked before the token, which would age meanwhile. The place is held until the next `Send` has ended.

    :param destination: the slug or UUID of where the request ends; None where that is Redox itself.
    :param for_token: whether it is for a token, for which those wait that hold a place.
    """

    destination: str | None = None
    for_token: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Let so many seconds pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Sign:
    """Sign these bytes with the connection's key of this key ID (its first by default), give the signature in JWS form."""

    message: bytes = field(repr=False)
    kid: str | None = None


@dataclass(frozen=True, slots=True)
class Tell:
    """Warn the reader of the log."""

    words: str


class Metric(enum.Enum):
    """What an operator of a deployment may want to see counted; the value is the metric's name."""

    REQUESTS = "redox.requests"
    BYTES = "redox.bytes"
    RATE_LIMITED = "redox.rate_limited"
    WAITED = "redox.waited"
    EXCHANGES = "redox.token_exchanges"
    RESOURCES = "redox.resources"
    AMBIGUOUS = "redox.ambiguous"


@dataclass(frozen=True, slots=True)
class Count:
    """Count something; what can be seen from the requests is counted without being asked."""

    metric: Metric
    amount: int = 1


@dataclass(frozen=True, slots=True)
class Bearer:
    """Give a token that is fresh and is not the one that was just refused (its value)."""

    refused: str | None = field(default=None, repr=False)


class Place(enum.Enum):
    """Where a token may lie: this process's memory, or what all workers share; and where they claim its renewal."""

    MEMORY = "memory"
    SHARED = "shared"
    CLAIM = "claim"


@dataclass(frozen=True, slots=True)
class Recall:
    """Give what lies there, or None: `Held` in memory, a `Token` in the shared place, a `Claim` beside it."""

    place: Place


@dataclass(frozen=True, slots=True)
class Remember:
    """Put this there, and say whether that could be done."""

    place: Place
    entry: Held | Token | Claim


@dataclass(frozen=True, slots=True)
class Disclose:
    """Put on record that patients' data are about to be used, or were. Ends the flow where the record has to be and cannot.

    :param done: whether it was done; before a sending it is not yet.
    :param error: why it failed.
    """

    disclosure: Disclosure
    done: bool = True
    error: Exception | None = None


Effect: TypeAlias = Turn | Send | Wait | Sign | Tell | Count | Bearer | Recall | Remember | Disclose
Flow: TypeAlias = Generator[Effect, Any, T]
