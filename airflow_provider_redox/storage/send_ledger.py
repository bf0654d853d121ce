"""The ledger of idempotency keys that were sent, across runs and DAGs: a small file for each key, created exclusively.

Object stores can create a file only if there is none (S3 If-None-Match, GCS generation 0), and so can a disk: of two
tasks with the same key at the same time, one sends. The file's name is a hash of the key with a salt that lies in the
ledger, and it holds a status, log IDs, who sent it and a hash of what was sent, with the same salt; no key and no content.

Without its salt no key can be found again. So a salt is created only for an empty ledger.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime

import msgspec

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.instants import utc
from airflow_provider_redox.storage.files import Files

_AND = " and "
_SALT = re.compile(rb"[0-9a-f]{64}")


class Entry(msgspec.Struct, frozen=True):
    """One key.

    :param status: `sending` or `accepted`.
    :param by: the task instance, as `dag_id/run_id/task_id/map_index`; if several may have sent it, joined by `and`.
    :param at: when, in UTC.
    :param hash: of the content, see `SendLedger.hash_of`; empty if it was not stored.
    """

    status: str
    by: str
    at: str = ""
    log_ids: list[str] = []
    hash: str = ""


class SendLedger:
    """The ledger below one path, such as `s3://conn_id@bucket/redox/ledger`."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")
        self._files = Files(self._root, name="ledger_path")
        self._salt = b""

    def url_of(self, *key: str) -> str:
        """Return the URL of a key's file."""
        name = self._keyed("\0".join(key).encode())
        return f"{self._root}/{name[:2]}/{name}.json"

    def hash_of(self, content: bytes) -> str:
        """Return the hash that identifies a content in this ledger; the same for all tasks that share it."""
        return self._keyed(b"content\0" + content)

    def _keyed(self, text: bytes) -> str:
        if not self._salt:
            self._salt = self._shared_salt()
        return hmac.new(self._salt, text, hashlib.sha256).hexdigest()[:40]

    def _shared_salt(self) -> bytes:
        """Return the salt that all tasks of this ledger share; the first task creates it in an empty ledger."""
        place = f"{self._root}/salt"
        salt = self._files.read(place)
        if salt is None:
            if self._files.folders(self._root):  # of entries: then the salt is lost, unless it was made just now
                salt = self._files.read(place)
            else:
                self._files.write_new(place, secrets.token_hex(32).encode())
                salt = self._files.read(place)
        return self._checked(salt)

    def _checked(self, salt: bytes | None) -> bytes:
        """Refuse a missing or invalid salt: with a new one every key would be free again."""
        if salt is not None and _SALT.fullmatch(salt.strip()):
            return salt.strip()
        what = (
            "is missing, and the ledger has entries"
            if salt is None
            else "holds no salt: it is empty, cut off or another file"
        )
        raise RedoxConfigError(
            f"ledger_path: its file `salt` {what}. Nothing was sent. Restore it from a backup; or begin a new ledger at "
            "another path, which knows nothing of what was sent"
        )

    def claim(self, url: str, by: str, digest: str) -> Entry | None:
        """Claim a key for a task instance and a content. Returns None if it was free, else the existing entry."""
        content = None
        for _ in range(3):  # one that is there and cannot be read was given back in between
            if self._files.write_new(url, msgspec.json.encode(Entry("sending", by, _now(), hash=digest))):
                return None
            if (content := self._files.read(url)) is not None:
                break
        return jsontext.stored(content, Entry) or Entry("sending", "unknown")

    def join(self, url: str, entry: Entry, by: str) -> None:
        """Say that one more sends what another may have sent. From then on it is nobody's own, to send or to give back."""
        others = entry.by.split(_AND)
        if entry.status != "accepted" and by not in others:
            both = Entry(entry.status, _AND.join([*others, by]), _now(), hash=entry.hash)
            self._files.write(url, msgspec.json.encode(both))

    def accepted(self, url: str, by: str, digest: str, log_ids: tuple[str, ...]) -> None:
        """Say that Redox has it."""
        self._files.write(url, msgspec.json.encode(Entry("accepted", by, _now(), list(log_ids), digest)))

    def release(self, url: str) -> None:
        """Say that it was not sent, or was refused."""
        self._files.remove(url)


def _now() -> str:
    return utc(datetime.now(UTC), timespec="seconds")
