"""Tries that freeze: a worker that stops before one of its effects, as a machine that swaps or a paused container does.

A try runs in a thread of its own, and stands still before its nth effect until it is thawed. An effect is an operation on
storage, on a marker, or a request. So whatever another try does in between can be played, step by step.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.storage.files import Files

OPERATIONS = (
    "create",
    "replace",
    "write",
    "writing",
    "create_new",
    "read",
    "open",
    "exists",
    "find",
    "folders",
    "move",
    "copy",
    "remove",
    "remove_file",
)


class Frozen:
    """A try that stands still before its effect of this number, if it has as many.

    `result` and `error` are what became of it; `effects` counts, and `at` names the one that it stands before.
    """

    def __init__(self, work: Callable[[], Any], before: int | None = None) -> None:
        self.effects, self.before, self.at = 0, before, ""
        self.result: Any = None
        self.error: BaseException | None = None
        self._work, self._ended = work, False
        self._stands, self._thawed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Frozen:
        """Run it until it stands still, or has ended."""
        _tries[self._thread] = self
        self._thread.start()
        assert self._stands.wait(20), f"it hangs: {self._where()}"
        return self

    def thaw(self, *, before: int | None = None) -> None:
        """Let it go on to its end, or to the effect before which it stands still again."""
        if self._ended:
            return
        self.before = before
        self._stands.clear()
        self._thawed.set()
        assert self._stands.wait(20), f"it hangs after {self.at}: {self._where()}"
        if before is None:
            self._thread.join(60)

    def effect(self, name: str) -> None:
        """Stand still, if it is time to."""
        if self.effects == self.before:
            self.at = name
            self._stands.set()
            assert self._thawed.wait(120)
            self._thawed.clear()
        self.effects += 1

    def _where(self) -> str:
        return "".join(traceback.format_stack(sys._current_frames()[self._thread.ident or 0])[-4:])

    def _run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:  # noqa: BLE001  (it is the test's to judge)
            self.error = error
        finally:
            self._ended = True
            self._stands.set()


_tries: dict[threading.Thread, Frozen] = {}


def gated(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """Make an effect of a function."""

    def act(*arguments: Any, **options: Any) -> Any:
        one = _tries.get(threading.current_thread())
        if one is not None:
            one.effect(name)
        return real(*arguments, **options)

    return act


@pytest.fixture
def freezing(monkeypatch: pytest.MonkeyPatch) -> Iterable[type[Frozen]]:
    """Make effects of what a try does to storage and to the server."""
    for name in OPERATIONS:
        if hasattr(Files, name):
            monkeypatch.setattr(Files, name, gated(name, getattr(Files, name)))
    monkeypatch.setattr(SyncClient, "_send", gated("send", SyncClient._send))
    yield Frozen
    _tries.clear()


def effects_of(work: Callable[[], Any]) -> int:
    """Count the effects of a try that nobody disturbs."""
    one = Frozen(work).start()
    if one.error is not None:
        raise one.error
    return one.effects
