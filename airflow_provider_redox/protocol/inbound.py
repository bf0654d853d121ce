"""What Redox sends to a destination: a challenge once, then Data Model messages and FHIR message Bundles.

Set-up: a POST whose body is `{"verification-token": ..., "challenge": ...}`, or a GET with the same two in its query; the
answer holds the challenge. After that, each message is a POST whose headers carry the token, as `verification-token` and as
`Authorization: Bearer` (Redox, receive webhooks). An answer of 400 and more pauses the whole feed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError
from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.arrivals import part, word

LONGEST_CHALLENGE_BODY = 4096
SHORTEST_TOKEN = 16
_CHALLENGE = re.compile(r"[A-Za-z0-9._~-]{1,200}")  # it is sent back: nothing that a browser would take for a page


class Tokens:
    """The verification tokens that are taken, several while one replaces another. Never shown, compared in constant time."""

    def __init__(self, tokens: Iterable[str]) -> None:
        given = [token for token in tokens if token]
        if not given or any(len(token) < SHORTEST_TOKEN or not _is_plain(token) for token in given):
            raise RedoxConfigError(f"needs at least one token, each of {SHORTEST_TOKEN} characters or more, without spaces")
        self._digests = [_digest(token.encode()) for token in given]

    def __repr__(self) -> str:
        return f"<{len(self._digests)} tokens>"

    def take(self, token: bytes) -> bool:
        """Say whether this is one of them. Takes as long for each token that is wrong."""
        digest = _digest(token)
        return max([hmac.compare_digest(digest, known) for known in self._digests])

    def authorise(self, headers: Collection[tuple[bytes, bytes]]) -> bool:
        """Say whether a request's headers carry a token.

        `verification-token` decides where it is there; `Authorization` may then be a gateway's own. Else that one does. A
        header that stands twice is none.

        :param headers: names in lower case, as ASGI gives them.
        """
        shown = [value for name, value in headers if name == b"verification-token"]
        if not shown:
            shown = [_bearer(value) for name, value in headers if name == b"authorization"]
        return len(shown) == 1 and self.take(shown[0])


@dataclass(frozen=True, slots=True)
class Challenge:
    """What Redox asks when a destination is set up."""

    token: bytes
    challenge: str


class _ChallengeBody(msgspec.Struct):
    token: str = msgspec.field(name="verification-token")
    challenge: str


def challenge_of_body(body: bytes) -> Challenge | None:
    """Read a challenge from the body of a POST; None for anything else."""
    if len(body) > LONGEST_CHALLENGE_BODY:
        return None
    try:
        asked = msgspec.json.decode(body, type=_ChallengeBody)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return _challenge(asked.token, asked.challenge)


def challenge_of_query(query: bytes) -> Challenge | None:
    """Read a challenge from the query of a GET; None for anything else."""
    if len(query) > LONGEST_CHALLENGE_BODY:
        return None
    pairs = parse_qsl(query.decode("latin-1"), max_num_fields=20) if query.count(b"&") < 20 else []
    asked = dict(pairs)
    if len(asked) != len(pairs) or "challenge" not in asked:
        return None
    return _challenge(asked.get("verification-token", ""), asked["challenge"])


def _challenge(token: str, challenge: str) -> Challenge | None:
    return Challenge(token.encode("utf-8", "replace"), challenge) if _CHALLENGE.fullmatch(challenge) else None


@dataclass(frozen=True, slots=True)
class Identity:
    """What a message is, as parts of names: log ID, data model, event type, source."""

    key: str
    data_model: str
    event_type: str
    source: str


class _Named(msgspec.Struct):
    ID: str | int | None = None
    Name: str | int | None = None


class _Meta(msgspec.Struct):
    DataModel: str
    EventType: str
    Source: _Named | None = None
    Logs: list[_Named] | None = None


class _DataModelMessage(msgspec.Struct):
    Meta: _Meta


class _Resource(msgspec.Struct, rename="camel"):
    resource_type: str = ""
    id: str | None = None
    event_uri: str | None = None
    event_coding: dict[str, Any] | None = None
    source: dict[str, Any] | None = None


class _Entry(msgspec.Struct):
    resource: _Resource | None = None


class _Bundle(msgspec.Struct, rename="camel"):
    resource_type: str
    entry: list[_Entry]
    id: str | None = None


_data_model = msgspec.json.Decoder(_DataModelMessage)
_bundle = msgspec.json.Decoder(_Bundle)


def identify(body: bytes) -> Identity:
    """Say what a message is. Raises `RedoxProtocolError` for one that is neither a Data Model message nor a FHIR Bundle.

    The log ID of a Data Model message is the first of `Meta.Logs`. A Bundle is known by its MessageHeader's ID, else its
    own, and by its bytes. One that names none is known by its bytes, so that the same bytes are the same message.
    """
    for read in (_of_data_model, _of_bundle):
        try:
            jsontext.check_values(body)
            return read(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
    raise RedoxProtocolError("neither a Data Model message with DataModel and EventType in its Meta nor a FHIR Bundle")


def _of_data_model(body: bytes) -> Identity:
    meta = _data_model.decode(body).Meta
    source = meta.Source or _Named()
    log_id = meta.Logs[0].ID if meta.Logs else None
    return Identity(_key(log_id, body), word(meta.DataModel), word(meta.EventType), part(source.ID or source.Name))


def _of_bundle(body: bytes) -> Identity:
    bundle = _bundle.decode(body)
    if bundle.resource_type != "Bundle":
        raise msgspec.ValidationError
    resources = [entry.resource for entry in bundle.entry[:1] if entry.resource]
    header = next((one for one in resources if one.resource_type == "MessageHeader"), _Resource())
    event = header.event_uri or (header.event_coding or {}).get("code") or ""
    source = str((header.source or {}).get("endpoint") or (header.source or {}).get("name") or "")
    return Identity(
        _key_of_bundle(header.id or bundle.id, body),
        "FHIR",
        part(str(event).rstrip("/").rpartition("/")[2]),
        part(source.removeprefix("urn:uuid:")),
    )


def _key(log_id: object, body: bytes) -> str:
    known = part(log_id)
    return known if known != "-" else f"sha256-{hashlib.sha256(body).hexdigest()[:48]}"


def _key_of_bundle(named: object, body: bytes) -> str:
    """Return the key of a Bundle: its ID and a hash of its bytes, because a sender may use one ID for two messages."""
    known = part(named)
    return key_of_content(known, body) if known != "-" else f"sha256-{hashlib.sha256(body).hexdigest()[:48]}"


def key_of_content(key: str, body: bytes) -> str:
    """Return the key of a message whose log ID another message has: the ID and a hash of the content."""
    return f"{key[:47]}-{hashlib.sha256(body).hexdigest()[:16]}"  # 64 at most, as every part of a name


_REWRITTEN = ("Logs", "Message", "Transmission")
"""Members of Meta that may be new each time that Redox delivers a message: `Logs` holds the AttemptID of the delivery."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def is_redelivery(kept: bytes, body: bytes) -> bool:
    """Return whether two messages with one log ID are the same, but for white space and fields of the delivery."""
    if kept == body:
        return True
    try:
        return _content(kept) == _content(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _content(body: bytes) -> dict[str, bytes]:
    members = _members.decode(body)
    meta = _members.decode(members.pop("Meta", b"{}"))
    content = {("Meta", name): value for name, value in meta.items() if name not in _REWRITTEN}
    content |= {("", name): value for name, value in members.items()}
    return {"/".join(path): msgspec.json.format(bytes(value), indent=-1) for path, value in content.items()}


def _bearer(value: bytes) -> bytes:
    scheme, _, token = value.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _is_plain(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
