"""A message's key in a ledger, and what that key stands for: one content, whoever sends it first.

Two messages that differ in what they say and have one key are a mistake that nobody but their author can correct: to send
the second would break the promise of the key, and to leave it out would lose what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxConfigError
from airflow_provider_redox.protocol.data_model import encode
from airflow_provider_redox.storage.inputs import digest_of_file, file_to_upload
from airflow_provider_redox.storage.send_ledger import Entry, SendLedger

_ENVELOPE = frozenset({"DataModel", "EventType", "Destinations", "EventDateTime", "Source", "Logs"})
"""Fields of Meta that are not content: they are part of the key already, or belong to one send and not to the message."""

_decimals = msgspec.json.Decoder(float_hook=Decimal)  # as floats, 7.10 and 7.1 would be the same
_canonical = msgspec.json.Encoder(decimal_format="number", order="deterministic")


class KeyConflictError(RedoxConfigError):
    """One idempotency key stands for two contents."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A key in a ledger, and who would send it.

    :param by: the task instance, and of a batch the message.
    :param digest: the ledger's hash of the content.
    :param own: what all entries of this batch have in common.
    """

    ledger: SendLedger
    url: str
    by: str
    digest: str
    own: str = ""

    def check_same(self, entry: Entry) -> None:
        """Raise `KeyConflictError` where the entry is of another content, or was accepted and does not say of which."""
        if entry.hash == self.digest or (not entry.hash and entry.status != "accepted"):
            return
        other = "another content" if entry.hash else "an unknown content"
        verb = "sent" if entry.status == "accepted" else "began to send"
        raise KeyConflictError(
            f"idempotency_key: {entry.by} {verb} {other} with the key of this message of {self.by} "
            f"({entry.at or 'when is unknown'}). Nothing was sent now. Point idempotency_key to what tells the two apart, "
            f"such as a version; or, if this one replaces it, clear with resend=True, or remove {self.url}"
        )

    def taken_by(self, entry: Entry) -> RedoxAmbiguousOutcomeError:
        """Build the error for a key that another task holds.

        It is retryable, because the next try reads the ledger first.
        """
        error = RedoxAmbiguousOutcomeError(
            f"idempotency_key: {entry.by} began to send this message ({entry.at or 'when is unknown'}), and the ledger does "
            "not have the outcome.  Nothing was sent now. While that task runs, a retry waits for it; if it is over, "
            f"settle its message first, or remove {self.url}"
        )
        error.retryable = True
        return error


def content_of(message: Mapping[str, Any]) -> bytes:
    """Return the content of a complete message in canonical form, without the fields that tell who sent it and when.

    A null in Meta is left out, too: it is filled in as an absent field is.
    """
    meta = {name: value for name, value in message["Meta"].items() if name not in _ENVELOPE and value is not None}
    return _canonical.encode(_decimals.decode(encode({**message, "Meta": meta})))


def digests_of(files: Mapping[str, str]) -> dict[str, str]:
    """Return a hash of each file that a message names, by its path: a file of another name may hold the same."""
    return {
        path: f"sha256:{digest_of_file(file_to_upload(path, where=f'payload: {place}')).hex()}"
        for path, place in files.items()
    }
