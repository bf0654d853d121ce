"""Triggers that watch an inbox: one tells assets of new messages for ever, the other wakes a sensor once.

Storage is asked in threads. An event holds URLs and IDs; a message is read by nobody here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage.inbox.parameters import check_parameters

try:
    from airflow.triggers.base import BaseEventTrigger
except ImportError:  # Airflow 2 has no event triggers; RedoxInboxSensor is for it
    BaseEventTrigger = BaseTrigger  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from airflow_provider_redox.storage.inbox.watching import Wanted, Watch

_log = logging.getLogger(__name__)
_SETTLE_SECONDS = 5.0  # the triggerer hands events on every second
_CONFIRM_SECONDS = 60.0
_MOST_UNSETTLED = 50
_LONGEST_PAUSE = 60.0
_MANY = 1000


class _Watching:
    """What both triggers have: how an inbox is watched, and batches by count and time."""

    inbox_path: str

    def _set(self, **parameters: Any) -> None:
        for name, value in parameters.items():
            setattr(self, name, value)
        self._parameters = parameters
        check_parameters(parameters)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give the class and its arguments: paths, names and numbers."""
        return f"{type(self).__module__}.{type(self).__qualname__}", dict(self._parameters)

    async def _opened(self) -> tuple[Wanted, Watch]:
        """Open the inbox, through the one thread in which Airflow is asked for connections (decision 8)."""
        from asgiref.sync import sync_to_async

        from airflow_provider_redox.storage.inbox.watching import Wanted

        own = ("poll_interval", "max_messages", "gather_seconds", "start")
        wanted = Wanted(**{name: value for name, value in self._parameters.items() if name not in own})
        return wanted, await sync_to_async(wanted.open)()

    async def _look(self, watch: Watch) -> list[str]:
        """Look until the storage answers. What was held before is given again by the look that succeeds."""
        pause = float(self._parameters["poll_interval"])
        while True:
            try:
                return await asyncio.to_thread(watch.look, time.time())
            except RedoxConfigError:
                raise
            except Exception as error:  # noqa: BLE001  (each store has errors of its own; the next look may go well)
                _log.warning("The inbox could not be listed (%s); it is tried again.", type(error).__name__)
            await asyncio.sleep(pause := min(_LONGEST_PAUSE, pause * 2))


class RedoxInboxTrigger(_Watching, BaseEventTrigger):
    r"""Tells the assets of an `AssetWatcher` of new messages in an inbox (Airflow 3).

    Pass the `extra` of such an event to `read_messages`. Each message is reported once, in the order of arrival, also when
    the triggerer is restarted; after a crash the last few seconds are reported again, and `read_messages` yields no message
    twice.

    :param inbox_path: the feed's folder in the inbox, such as `s3://aws_default@bucket/inbox/results`.
    :param name: whose place in the inbox this is. By default it is made of the path and the filters.
    :param data_model: only messages of this data model, or these; `FHIR` for Bundles.
    :param event_type: only messages of this event type, or these.
    :param source: only messages of this source ID, or these.
    :param max_messages: the most messages in one event.
    :param gather_seconds: seconds that a message may wait for others to share its event.
    :param poll_interval: seconds between two looks.
    :param lateness: seconds by which a message may become visible after one that came later; with several receivers, 60 or
        more.
    :param start: where to begin the first time: `earliest`, or `latest` to pass over what is there.
    :param name_pattern: a regular expression for the paths of a bucket that something else fills, such as
        `(?P<data_model>\w+)/(?P<event_type>\w+)/(?P<log_id>[\w-]+)\.json`. `inbox_path` may have `%Y/%m/%d` then.
    :param state_path: where the place in the inbox is kept; by default in the inbox itself.
    """

    def __init__(
        self,
        inbox_path: str,
        *,
        name: str | None = None,
        data_model: str | Sequence[str] | None = None,
        event_type: str | Sequence[str] | None = None,
        source: str | Sequence[str] | None = None,
        max_messages: int = 100,
        gather_seconds: float = 0.0,
        poll_interval: float = 5.0,
        lateness: float = 120.0,
        start: str = "earliest",
        name_pattern: str | None = None,
        state_path: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._set(
            inbox_path=inbox_path,
            name=name,
            data_model=data_model,
            event_type=event_type,
            source=source,
            max_messages=max_messages,
            gather_seconds=gather_seconds,
            poll_interval=poll_interval,
            lateness=lateness,
            start=start,
            name_pattern=name_pattern,
            state_path=state_path,
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Tell of messages for ever."""
        wanted, watch = await self._opened()
        if self._parameters["start"] == "latest":
            await asyncio.to_thread(watch.begin_at_newest)
        batches, unsettled = Batches(**_batching(self._parameters)), Unsettled(watch)
        while True:
            fresh = await self._look(watch)
            for names in batches.ready(fresh):
                event = await asyncio.to_thread(wanted.event, watch, names)
                yield TriggerEvent(event)
                unsettled.add(names)
            if not await unsettled.settle(batches.held) or len(fresh) < _MANY:
                await asyncio.sleep(self._parameters["poll_interval"])
            while unsettled.is_full:
                await asyncio.sleep(1)
                await unsettled.settle(batches.held)


class InboxArrivalTrigger(_Watching, BaseTrigger):
    """Wakes a `RedoxInboxSensor` when there is a message that it has not told of."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._set(**parameters)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Tell once that something arrived."""
        _, watch = await self._opened()
        batches = Batches(**_batching(self._parameters))
        while True:
            if next(batches.ready(await self._look(watch)), None):
                yield TriggerEvent({"status": "arrived"})
                return
            await asyncio.sleep(self._parameters["poll_interval"])


class Batches:
    """Cuts what has arrived into events.

    `held` is what waits for others to share its event.
    """

    def __init__(self, max_messages: int, gather_seconds: float) -> None:
        self._most, self._wait = max_messages, gather_seconds
        self._since: float | None = None
        self.held: list[str] = []

    def ready(self, fresh: list[str]) -> Iterator[list[str]]:
        """Give the batches that are full, and the last one when its first message has waited long enough."""
        now = time.monotonic()
        full = len(fresh) - len(fresh) % self._most
        rest, self.held = fresh[full:], []
        for start in range(0, full, self._most):
            self._since = None
            yield fresh[start : start + self._most]
        if rest and self._since is None:
            self._since = now
        if rest and now - (self._since or now) < self._wait:
            self.held = rest
        elif rest:
            self._since = None
            yield rest


class Unsettled:
    """What was told of, and is written down as told when Airflow has it for sure."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._open: deque[tuple[float, list[str]]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether so much is open that no more should be told of."""
        return len(self._open) >= _MOST_UNSETTLED

    def add(self, names: list[str]) -> None:
        """Remember what was told of just now."""
        self._open.append((time.monotonic(), names))

    async def settle(self, held: list[str]) -> bool:
        """Write down what was told of some seconds ago, and say whether that could be done.

        An event is stored by the same process that answers a trigger's questions, one thing after the other. So when a
        question that is asked seconds later is answered, the event is stored.
        """
        due = time.monotonic() - _SETTLE_SECONDS
        ripe = [names for told, names in self._open if told <= due]
        if ripe and not await _airflow_answers():
            return False
        later = [name for told, names in self._open if told > due for name in names]
        try:
            settled = [name for names in ripe for name in names]
            await asyncio.to_thread(self._watch.settle, settled, open_names=[*later, *held])
        except Exception as error:  # noqa: BLE001  (each store has errors of its own; it is written the next time)
            _log.warning("The place in the inbox could not be written (%s).", type(error).__name__)
            return False
        for _ in ripe:
            self._open.popleft()
        return True


async def _airflow_answers() -> bool:
    """Ask Airflow for a Variable that there is not, to learn whether it has done what came before."""
    from airflow.providers.common.compat.sdk import Variable
    from asgiref.sync import sync_to_async

    try:
        await asyncio.wait_for(sync_to_async(Variable.get)("redox_inbox", None), _CONFIRM_SECONDS)
    except Exception as error:  # noqa: BLE001  (each Airflow has errors of its own)
        _log.warning("Airflow does not answer (%s); what was told of may be told again.", type(error).__name__)
        return False
    return True


def _batching(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: parameters[name] for name in ("max_messages", "gather_seconds")}
