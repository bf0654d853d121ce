"""A message in the hands of one task: claimed, read, and then done with, wanted again, or given up.

Each consumer, which is a task of a DAG, has a mark of its own for each message, by log ID: first the claim, made by
exclusive creation, with the task instance that holds it; then what became of it. So a message that is told of twice is
handed out once, to the run that came first, and a task that is tried again is handed what it has not done.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError
from airflow_provider_redox.protocol import arrivals
from airflow_provider_redox.protocol.inbound import Identity, identify, is_redelivery, key_of_content
from airflow_provider_redox.protocol.jsontext import stored
from airflow_provider_redox.storage.inbox.listing import OwnListing
from airflow_provider_redox.storage.inbox.place import InboxFiles, message_url, spread
from airflow_provider_redox.storage.layout import safe_name

_log = logging.getLogger(__name__)


class Claim(msgspec.Struct):
    """Which run holds a message, where the message is, and how often it was handed out."""

    owner: str
    tries: int = 1
    url: str = ""


class Told(msgspec.Struct):
    """A message as an event tells of it."""

    url: str
    log_id: str | None = None
    data_model: str = ""
    event_type: str = ""
    source: str = ""
    tries: int = 0
    consumer: str = ""


class Event(msgspec.Struct):
    """What the trigger or the sensor says: an inbox, where its state is, and messages in the order of their arrival."""

    inbox: str
    state: str
    messages: list[Told]


@dataclass(frozen=True, slots=True)
class Consumer:
    """A task, and the instance of it that runs."""

    name: str
    owner: str

    @property
    def folder(self) -> str:
        """Its folder among the consumers of an inbox."""
        return f"consumers/{safe_name(self.name)}"

    @property
    def digest(self) -> str:
        """Its name in the names of messages that it wants again."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:16]


class InboxMessage:
    """One message.

    `log_id`, `data_model`, `event_type` and `source` are those of its name: letters, digits and `-`. `body` is what Redox
    sent, byte for byte. `tries` says the how manyth time this is that it was handed out.
    """

    def __init__(self, desk: Desk, told: Told, identity: Identity, body: bytes, tries: int) -> None:
        self._desk, self._told, self._identity = desk, told, identity
        self.log_id, self.data_model = identity.key, identity.data_model
        self.event_type, self.source = identity.event_type, identity.source
        self.url, self.body, self.tries = told.url, body, tries
        self._done = False

    def __repr__(self) -> str:
        return f"<InboxMessage {self.log_id}>"

    @property
    def is_open(self) -> bool:
        """Whether nothing has been said of it yet."""
        return not self._done

    def json(self) -> Any:
        """Give the message as Python values. Raises `RedoxProtocolError`, which says nothing of its content."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise RedoxProtocolError(f"message {self.log_id}: is not JSON") from None

    def acknowledge(self) -> None:
        """Be done with it: it is not handed to this task again. Happens by itself when the loop goes on."""
        self._end("acknowledged")

    def retry(self, *, after: float = 60.0) -> None:
        """Have it told of again in so many seconds, to this task alone, by a new event."""
        if not 0 <= after <= 30 * 86400:
            raise RedoxConfigError("after: must be 0 to 2,592,000 seconds")
        if self.is_open:
            self._desk.tell_again(self._identity, self.body, self.tries, after)
        self._end("retried")

    def dead_letter(self, reason: str = "") -> None:
        """Give it up: kept under `dead` in this task's folder of the inbox, and never handed to it again."""
        if self.is_open:
            self._desk.bury(self._identity, self.url, reason)
        self._end("dead")

    def _end(self, outcome: str) -> None:
        if self.is_open:
            self._desk.end(self.log_id, self._told.tries, outcome)
            self._done = True


class Desk:
    """Where one consumer handles the messages of one inbox."""

    def __init__(self, event: Event, consumer: Consumer) -> None:
        self._event, self._consumer = event, consumer
        self._state = InboxFiles(event.state)
        self._inbox = self._state if event.inbox == event.state else InboxFiles(event.inbox)
        self._done = self._held = 0

    def messages(self, *, max_tries: int | None, done_too: bool) -> Iterator[InboxMessage]:
        """Claim and yield one message after the other. Missing messages are an error at the end."""
        missing = []
        for told in self._event.messages:
            if told.consumer and told.consumer != self._consumer.digest:
                continue
            body = None if told.log_id else self._read(told)
            identity, claim = self._claimed(self._identity(told, body), told, done_too=done_too)
            if claim is None:
                continue
            body = self._read(told) if body is None else body
            if body is None:
                missing.append(identity.key)
                continue
            message = InboxMessage(self, told, identity, body, told.tries + claim.tries)
            if max_tries is None or message.tries <= max_tries:
                yield message
            else:
                _log.warning("Message %s was tried %d times and is given up.", message.log_id, max_tries)
                message.dead_letter(f"tried {max_tries} times")
        self._log_passed_over()
        if missing:
            raise RedoxProtocolError(f"inbox: {len(missing)} messages are not there any more, the first is {missing[0]}")

    def _log_passed_over(self) -> None:
        """Log how many messages were not handed out, and why: otherwise a cleared task would silently succeed with none."""
        total = len(self._event.messages)
        if self._done:
            _log.warning(
                "%d of %d messages are not handed out again: an earlier try of this task is done with them. "
                "include_done=True hands them out.",
                self._done,
                total,
            )
        if self._held:
            _log.info("%d of %d messages are not handed out: another run of this task has them.", self._held, total)

    def end(self, key: str, tries: int, outcome: str) -> None:
        """Write down what became of a message."""
        self._state.write_new(self._mark("done", key, tries), msgspec.json.encode({"outcome": outcome}))

    def tell_again(self, identity: Identity, body: bytes, tries: int, after: float) -> None:
        """Let a message arrive once more, for this consumer."""
        if self._inbox is not self._state:
            self._state.keep_new(message_url(self._event.state, identity.key), body)
        again = arrivals.Arrival(
            arrivals.stamp(self._now(identity.key, tries) + after),
            identity.data_model,
            identity.event_type,
            identity.source,
            identity.key,
            tries,
            self._consumer.digest,
        )
        self._state.mark(f"{self._event.state}/arrivals/{again.folder}/{again.name}")

    def bury(self, identity: Identity, url: str, reason: str) -> None:
        """Write down that a message was given up, and why."""
        letter = {"log_id": identity.key, "url": url, "reason": reason, "owner": self._consumer.owner, "at": time.time()}
        self._state.write(f"{self._folder}/dead/{identity.key}.json", msgspec.json.encode(letter))

    def _now(self, key: str, tries: int) -> float:
        """Return the time in seconds since 1970, at least the claim's time by the store's clock, and the newest arrival's.

        A reader starts at the newest arrival that it knows. By the clock of a worker that is behind, the message would be
        dated before that, and never be read again.
        """
        claimed = self._state.changed(self._mark("claims", key, tries)) or 0.0
        return max(time.time(), claimed, OwnListing(self._state, self._event.state).newest())

    def _claimed(self, identity: Identity, told: Told, *, done_too: bool) -> tuple[Identity, Claim | None]:
        """Claim a message; the claim is None if another run has it, or if it is done and done messages are not wanted.

        Another file under the same log ID is another message, unless it is a redelivery: it gets a key of its own.
        """
        held = self._claim(identity.key, told)
        if held.url not in ("", told.url) and not told.tries:
            body = self._read(told) or b""
            if not is_redelivery(self._read(msgspec.structs.replace(told, url=held.url)) or b"", body):
                identity = dataclasses.replace(identity, key=key_of_content(identity.key, body))
                held = self._claim(identity.key, told)
        if held.owner != self._consumer.owner:
            self._held += 1
        elif held.tries and not done_too and self._state.exists(self._mark("done", identity.key, told.tries)):
            self._done += 1
        else:
            held.tries += 1
            if held.tries > 1:
                self._state.replace(self._mark("claims", identity.key, told.tries), msgspec.json.encode(held))
            return identity, held
        return identity, None

    def _claim(self, key: str, told: Told) -> Claim:
        """Return the claim on a message: the existing one, or a new one of this run without tries."""
        url, claim = self._mark("claims", key, told.tries), Claim(self._consumer.owner, 1, told.url)
        if self._state.write_new(url, msgspec.json.encode(claim)):
            return msgspec.structs.replace(claim, tries=0)
        text = self._state.read(url)
        held = Claim("") if text is None else stored(text, Claim)
        if held is None:
            raise RedoxProtocolError(f"{url}: cannot be read; remove this claim, and its message is handed out again")
        return held

    def _read(self, told: Told) -> bytes | None:
        files = self._state if told.url.startswith(f"{self._event.state}/") else self._inbox
        return files.read(told.url)

    @staticmethod
    def _identity(told: Told, body: bytes | None) -> Identity:
        """Take it from the event, or from the message where the event does not know its log ID."""
        if told.log_id:
            return Identity(*(arrivals.part(one) for one in (told.log_id, told.data_model, told.event_type, told.source)))
        try:
            return identify(body or b"")
        except RedoxProtocolError:
            return Identity(arrivals.part(told.url), "-", "-", "-")

    @property
    def _folder(self) -> str:
        return f"{self._event.state}/{self._consumer.folder}"

    def _mark(self, kind: str, key: str, tries: int) -> str:
        again = f".again{tries}" if tries else ""
        return f"{self._folder}/{kind}/{spread(key)}/{key}{again}"


def events_of(given: Any, *, inbox: str | None = None, state: str | None = None) -> Iterator[Event]:
    """Give the events in what a task is handed: a sensor's result, one asset event, a list, or all that started the run.

    :param inbox: the only inbox whose events are taken, with its state in its own folder, or in `state`.

    Raises `RedoxConfigError` for anything else, for another inbox than the author's, and for a URL outside it.
    """
    keys = {key for key in given if isinstance(key, str)} if isinstance(given, Mapping) else set()
    if "messages" in keys:  # `in given` itself would not do: Airflow's mapping of assets raises for a text
        yield _checked(given, inbox, state)
    elif "payload" in keys:
        yield from events_of(given["payload"], inbox=inbox, state=state)
    elif (extra := given["extra"] if "extra" in keys else getattr(given, "extra", None)) is not None:
        yield from events_of(extra, inbox=inbox, state=state)
    elif isinstance(given, Mapping):
        for one in given.values():
            yield from events_of(one, inbox=inbox, state=state)
    elif isinstance(given, list | tuple) or (hasattr(given, "__iter__") and not isinstance(given, str | bytes)):
        for one in given:
            yield from events_of(one, inbox=inbox, state=state)
    else:
        raise RedoxConfigError("event: must be what RedoxInboxTrigger or RedoxInboxSensor told, or triggering_asset_events")


def _checked(given: Mapping[str, Any], inbox: str | None, state: str | None) -> Event:
    try:
        event = msgspec.convert(dict(given), Event)
    except msgspec.ValidationError as error:
        raise RedoxConfigError(f"event: not what an inbox tells: {error}") from None
    if inbox is not None and event.inbox != inbox:
        raise RedoxConfigError(
            "event: is of another inbox than inbox_path; write inbox_path as the trigger has it, connection ID included"
        )
    if inbox is not None and event.state not in (state, inbox, f"{inbox}/_redox"):
        raise RedoxConfigError("event: keeps its state elsewhere than in its inbox; name that place as state_path")
    for told in event.messages:
        below = told.url.startswith((f"{event.inbox}/", f"{event.state}/"))
        if not below or ".." in told.url.split("/") or arrivals.part(told.log_id or "-") != (told.log_id or "-"):
            raise RedoxConfigError("event: names a message outside its inbox")
    return event
