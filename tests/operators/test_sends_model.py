"""Whatever a server, a worker, Airflow and an author do to a message, it is not doubled unless that was asked for.

A machine plays tries of one message against a real sandbox, which commits and then drops, resets, stalls or lies, refuses,
or loses the request; workers are killed before any operation on storage or on the marker, before the message leaves and
after it has arrived; disks go; hours pass; tasks are retried, cleared, and run again with the same key. The judge is the
sandbox's own list of messages that it has processed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from airflow_provider_redox.client import driver
from airflow_provider_redox.client.slots import MemorySlot
from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxError, RedoxTransportError
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.operators.sends import posting
from airflow_provider_redox.protocol.effects import Request
from airflow_provider_redox.protocol.exchange import Environment
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.send_marker import Mark
from tests.support.sandbox import Sandbox

RETRIES = 2
TRIES_OF_A_REQUEST = 2
PARTLY = json.dumps({"Meta": {"Errors": [{"ID": 7, "Module": "Send"}], "Logs": [{"ID": "log-of-one-destination"}]}})

# The message has been processed, and the client cannot know. `times` is more than there are tries.
LOST: dict[str, dict[str, Any]] = {
    "drop": {"kind": "drop", "when": "after"},
    "reset": {"kind": "reset", "when": "after"},
    "reset in the body": {"kind": "reset_in_body", "when": "after"},
    "truncated": {"kind": "truncate", "when": "after"},
    "html": {"kind": "html", "when": "after"},
    "garbage": {"kind": "garbage", "when": "after"},
    "408": {"kind": "status", "status": 408, "when": "after"},
    "500": {"kind": "status", "status": 500, "when": "after"},
    "502": {"kind": "status", "status": 502, "when": "after"},
    "503": {"kind": "status", "status": 503, "when": "after"},
    "504": {"kind": "status", "status": 504, "when": "after"},
    "303": {"kind": "status", "status": 303, "when": "after"},
    "409": {"kind": "status", "status": 409, "when": "after"},
    "nothing shown": {"kind": "body", "body": '{"Meta": {}}'},
    "stall": {"kind": "delay", "seconds": 0.5, "when": "after"},
    "partly accepted": {"kind": "body", "body": PARTLY},
}
# It has not been processed, and the client cannot know that either.
VAIN: dict[str, dict[str, Any]] = {
    "dropped unread": {"kind": "drop"},
    "reset unread": {"kind": "reset"},
    "502 unread": {"kind": "status", "status": 502},
}
# It has not been processed, and the client knows.
REFUSED: dict[str, dict[str, Any]] = {
    "400": {"kind": "status", "status": 400},
    "501": {"kind": "status", "status": 501},
    "401": {"kind": "status", "status": 401},
    "429": {"kind": "status", "status": 429, "headers": {"Retry-After": "0"}},
    "busy": {"kind": "status", "status": 503, "headers": {"Retry-After": "0"}},
}
# The message never leaves, as there is no token for it.
TOKENLESS: dict[str, dict[str, Any]] = {
    "no token: 500": {"kind": "status", "status": 500},
    "no token: dropped": {"kind": "drop"},
    "no token: 401": {"kind": "status", "status": 401},
}
HARMLESS = {**VAIN, **REFUSED, **TOKENLESS}
FAULTS = {**LOST, **HARMLESS}
ARRIVED = -1
"""Killed when the message has arrived and before its answer is seen, however many operations that is."""

TIMES = {1: "the first request of a try", 9: "each"}


class KilledError(BaseException):
    """What the kernel does, as far as a test in one process can do it."""


@dataclass
class Database:
    """The metadata database's Variables, which every worker sees."""

    operate: Callable[[], None]
    marks: dict[str, Mark] = field(default_factory=dict)

    def marker_of(self, ti: Any, number: int = 0) -> SimpleNamespace:
        name = f"{ti.run_id}/{ti.task_id}"

        def read() -> Mark | None:
            self._asked()
            return self.marks.get(name)

        def write(mark: Mark) -> None:
            self._asked()
            self.marks[name] = mark

        def clear() -> None:  # tells of no failure
            with contextlib.suppress(RedoxTransportError):
                self._asked()
                self.marks.pop(name, None)

        return SimpleNamespace(read=read, write=write, clear=clear)

    def _asked(self) -> None:
        try:
            self.operate()
        except OSError:
            raise RedoxTransportError("Airflow does not answer") from None


class World:
    """One clock for us and the sandbox, one disk, one database, and a killer."""

    def __init__(self, sandbox: Sandbox, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sandbox, self.root = sandbox, root
        self.offset, self.left, self.broken = 0.0, None, None
        self.database = Database(self.operate)
        self.hosts = {True: sandbox.connection_json, False: json.dumps({**sandbox.connection, "port": 9})}
        for name in ("write", "write_new", "read", "remove"):
            monkeypatch.setattr(Files, name, self.mortal(getattr(Files, name)))
        monkeypatch.setattr(SyncClient, "_send", self.mortal_send(SyncClient._send))
        monkeypatch.setattr(driver, "real_environment", self.environment)
        monkeypatch.setitem(SyncClient.__init__.__kwdefaults__, "sleep", self.sleep)
        monkeypatch.setattr(posting, "marker_of", lambda ti: self.database.marker_of(ti))
        self.monkeypatch = monkeypatch

    def begin(self) -> None:
        """Start an example with nothing done."""
        self.sandbox.reset()
        self.offset, self.left = 0.0, None
        self.database.marks.clear()
        shutil.rmtree(self.root, ignore_errors=True)
        self.monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", self.hosts[True])
        RedoxHook().post_data_model({"Meta": {"DataModel": "PatientAdmin", "EventType": "Arrival"}})  # its logs are seen

    def operate(self) -> None:
        """Die, if it is time to; or fail once."""
        if self.left == 0:
            raise KilledError
        self.left = self.left if self.left in (None, ARRIVED) else self.left - 1
        self.broken = None if self.broken is None else self.broken - 1
        if self.broken == 0:
            raise OSError("the store or the database does not answer")

    def die(self) -> None:
        """Die, if it is time to."""
        with contextlib.suppress(OSError):
            self.operate()

    def mortal(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def operated(*arguments: Any, **options: Any) -> Any:
            self.operate()
            return real(*arguments, **options)

        return operated

    def mortal_send(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def send(client: SyncClient, request: Request) -> Any:
            if not request.url.endswith("/endpoint"):
                return real(client, request)
            self.die()
            happened = real(client, request)
            if self.left == ARRIVED:
                raise KilledError
            self.die()
            return happened

        return send

    def sleep(self, seconds: float) -> None:
        """Let time pass, here and in the sandbox."""
        if seconds > 0:
            self.offset += seconds
            self.sandbox.settings(clock_offset=self.offset)

    def environment(self, _retry: RetryPolicy | None = None, **_: Any) -> Environment:
        jtis = itertools.count()
        return Environment(
            now=lambda: time.time() + self.offset,
            monotonic=lambda: time.monotonic() + self.offset,
            jitter=lambda: 0.0,
            new_jti=lambda: f"{time.monotonic_ns()}-{next(jtis)}",
            retry=RetryPolicy(attempts=TRIES_OF_A_REQUEST, base=0.01, rate_limit_floor=0.0),
        )

    def arrived(self) -> int:
        """How often the message has been processed."""
        return sum("Quillfeather" in json.dumps(message["body"]) for message in self.sandbox.control("GET", "messages"))


class Try(NamedTuple):
    """What is done to one try."""

    on_ambiguous: str
    fault: str | None = None
    times: int = 9
    kill: int | None = None
    broken: int | None = None
    reachable: bool = True
    platform: str | None = None
    lose_disk: bool = False
    later: float = 1.0

    @property
    def quiet(self) -> bool:
        return self.answered and self.broken is None

    @property
    def answered(self) -> bool:
        return self.fault is None and self.kill is None and self.reachable


@dataclass
class Run:
    """One task instance, as Airflow counts its tries and as the judge knows it.

    :param clean: nothing of it may have arrived, as far as it can know.
    :param known: it was told that the message is accepted.
    :param told: and this can still be read.
    :param open: its last try left it open, and so has to have left a marker.
    """

    name: str
    try_number: int = 0
    max_tries: int = RETRIES
    clean: bool = True
    known: bool = False
    told: bool = False
    open: bool = False


# What is drawn at random is what hurts, so quiet tries are named more than once.
tries = st.builds(
    Try,
    on_ambiguous=st.sampled_from(["fail", "fail", "reconcile", "resend"]),
    fault=st.sampled_from([None, None]) | st.sampled_from(sorted(LOST)) | st.sampled_from(sorted(HARMLESS)),
    times=st.sampled_from(sorted(TIMES)),
    kill=st.sampled_from([None, None, None, ARRIVED, *range(15)]),
    broken=st.sampled_from([None] * 10 + list(range(1, 15))),
    reachable=st.sampled_from([True, True, True, True, False]),
    platform=st.sampled_from([None, None, None, "401", "500", "garbage"]),
    lose_disk=st.booleans(),
    later=st.sampled_from([1.0, 400.0, 90_000.0]),
)


class Sends(RuleBasedStateMachine):
    """Tries of one message by one run or more."""

    world: World
    ledger: bool

    def __init__(self) -> None:
        super().__init__()
        self.world.begin()
        self.runs = {name: Run(name) for name in (("a", "b") if self.ledger else ("a",))}
        self.budget = 1  # messages that there may be: one, and what was asked for besides

    @rule(name=st.sampled_from("ab"), what=tries)
    def airflow_tries(self, name: str, what: Try) -> None:
        """A run, a retry, or a try for a task whose scheduler is gone."""
        self._try(self._run(name), what, resend=False)

    @rule(name=st.sampled_from("ab"), what=tries)
    def airflow_retries_with_resend_left_in_the_dag(self, name: str, what: Try) -> None:
        """`resend=True` is not for Airflow's own tries."""
        run = self._run(name)
        if run.try_number:
            self._try(run, what, resend=True)

    @rule(name=st.sampled_from("ab"), what=tries, resend=st.booleans())
    def the_author_clears(self, name: str, what: Try, *, resend: bool) -> None:
        """A clear: Airflow sets max_tries to the tries before it plus `retries`."""
        run = self._run(name)
        run.max_tries = run.try_number + RETRIES
        self._try(run, what, resend=resend)

    @precondition(lambda self: not self.ledger)
    @rule()
    def in_the_end_a_clear_with_resend_gets_through(self) -> None:
        """Whatever came before, the author has the last word."""
        run = self.runs["a"]
        run.max_tries = run.try_number + RETRIES
        before = self.world.arrived()
        self._try(run, Try("fail"), resend=True)
        assert self.world.arrived() == before + 1

    def _run(self, name: str) -> Run:
        return self.runs.get(name, self.runs["a"])

    def _try(self, run: Run, what: Try, *, resend: bool) -> None:
        run.try_number += 1
        first = run.try_number == 1 or run.max_tries - RETRIES == run.try_number - 1
        asked, before = resend and first, self.world.arrived()
        if what.lose_disk and (run.open or self._marked(run)):
            shutil.rmtree(self.world.root / run.name, ignore_errors=True)
            run.clean = run.told = False
        self.line_before = self._line(run)
        self.world.sleep(what.later)
        summary, error = self._execute(run, what, resend=resend)
        new = self.world.arrived() - before
        self._judge_count(run, what, new, before, asked=asked)
        self._judge_words(run, what, summary, error, before, new, asked=asked)
        self._remember(run, what, summary, error, asked=asked)

    def _marked(self, run: Run) -> bool:
        return f"{run.name}/post" in self.world.database.marks

    def _execute(self, run: Run, what: Try, *, resend: bool) -> tuple[dict[str, Any] | None, BaseException | None]:
        world = self.world
        world.sandbox.control("DELETE", "faults")
        if what.fault is not None:
            place = "/auth/token$" if what.fault in TOKENLESS else "/endpoint$"
            times = 9 if what.fault in TOKENLESS else what.times
            world.sandbox.fault(match={"path": place}, times=times, **FAULTS[what.fault])
        if what.fault in TOKENLESS:
            MemorySlot.forget_all()
        if what.platform is not None:
            fault = {"kind": "garbage"} if what.platform == "garbage" else {"kind": "status", "status": int(what.platform)}
            world.sandbox.fault(match={"path": "/platform/"}, times=None, **fault)
        world.monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", world.hosts[what.reachable])
        ti = SimpleNamespace(dag_id="feed", run_id=run.name, task_id="post", map_index=-1)
        ti.try_number, ti.max_tries = run.try_number, run.max_tries
        operator = self._operator(run, what, resend=resend)
        client = operator.hook.client
        client.settings = replace(client.settings, timeout=0.25 if what.fault == "stall" else 20.0)
        try:
            world.left, world.broken = what.kill, what.broken
            return operator.execute({"ti": ti}), None
        except (RedoxError, AirflowFailException, KilledError, OSError) as error:
            return None, error
        finally:
            world.left = world.broken = None
            client.close()

    def _operator(self, run: Run, what: Try, *, resend: bool) -> RedoxDataModelPostOperator:
        patient = {"Identifiers": [{"ID": "MRN-7731", "IDType": "MR"}], "Demographics": {"LastName": "Quillfeather"}}
        shared = {"idempotency_key": "/Patient/Identifiers/0/ID", "ledger_path": f"file://{self.world.root}/ledger"}
        return RedoxDataModelPostOperator(
            task_id="post",
            payload={"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}, "Patient": patient},
            results_path=f"file://{self.world.root}/{run.name}",
            on_ambiguous=what.on_ambiguous,
            resend=resend,
            retries=RETRIES,
            platform_conn_id="redox_platform",
            **(shared if self.ledger else {}),
        )

    def _judge_count(self, run: Run, what: Try, new: int, before: int, *, asked: bool) -> None:
        """Nothing is doubled that was not asked for, and nothing at all that is known to be there."""
        again = TRIES_OF_A_REQUEST if what.on_ambiguous == "resend" else 1
        self.budget += again if asked or what.on_ambiguous == "resend" else 0
        assert before + new <= self.budget
        if asked:
            assert new <= again
        elif any(one.told or (one.known and self.ledger) for one in self.runs.values()):
            assert new == 0
        elif what.on_ambiguous == "fail":
            assert new <= (1 if before == 0 else 0)
        else:  # a reconcile may complete a resend that was asked for and has not left
            assert new <= again

    def _judge_words(
        self, run: Run, what: Try, summary: Any, error: BaseException | None, before: int, new: int, *, asked: bool
    ) -> None:
        if summary is not None:
            assert before + new >= 1, "a loss was called success"
            assert (summary["accepted"], summary["refused"], summary["ambiguous"]) == (1, 0, 0)
        said = json.dumps(summary) + repr(error) + " ".join(getattr(error, "__notes__", ()))
        assert "Quillfeather" not in said
        assert "MRN-7731" not in said
        if what.answered and new == 1:
            assert summary is not None, f"the answer came: {error!r}"
        clean = all(one.clean for one in self.runs.values()) or asked
        told = run.told if not self.ledger else any(one.known for one in self.runs.values())
        if what.quiet and (clean or told):
            assert summary is not None, f"nothing stood against it, or it was known: {error!r}"
        if what.quiet and what.platform is None and what.on_ambiguous == "reconcile" and self._settleable(before + new):
            assert summary is not None, f"the logs tell: {error!r}"
        if what.quiet and not clean and what.on_ambiguous == "fail" and summary is None:
            found = error.__cause__ if isinstance(error, AirflowFailException) else error  # who sent nothing may look again
            assert isinstance(found, RedoxAmbiguousOutcomeError)

    def _settleable(self, arrived: int) -> bool:
        """Say whether the logs can tell: there is one at most, and the line says when it was."""
        return not self.ledger and arrived <= 1 and self.line_before.get("outcome") in ("sending", "ambiguous")

    def _line(self, run: Run) -> dict[str, Any]:
        files = list((self.world.root / run.name).rglob("*.ndjson"))
        return json.loads(files[0].read_text()) if files else {}

    def _remember(self, run: Run, what: Try, summary: Any, error: BaseException | None, *, asked: bool) -> None:
        if summary is not None:
            run.known, run.told, run.open = True, True, False
            return
        arrived = isinstance(error, KilledError) and what.kill == ARRIVED
        run.open = run.open or arrived or (what.fault in LOST and what.kill is None and what.reachable)
        if isinstance(error, KilledError) or (what.reachable and what.fault in (*LOST, *VAIN)):
            run.clean = False
        if self.ledger and what.broken is not None:  # the key may still be taken
            run.clean = False
        if asked:  # what was there before, and what became of the resend, nobody tells any more
            run.clean, run.known, run.told = run.clean and not run.known, False, False


@pytest.fixture
def world(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world of one machine; its connection for the Platform API is always there."""
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_PLATFORM", sandbox.connection_json)
    return World(sandbox, tmp_path / "world", monkeypatch)


def play(world: World, *, ledger: bool) -> None:
    machine = type("Played", (Sends,), {"world": world, "ledger": ledger})
    checks = list(HealthCheck)
    examples = int(os.environ.get("FUZZ", "150"))
    plan = settings(
        max_examples=examples, stateful_step_count=6, deadline=None, suppress_health_check=checks, print_blob=True
    )
    run_state_machine_as_test(machine, settings=plan)


def test_one_run_never_doubles_a_message(world: World):
    """Tries, clears and kills of one task instance: no duplicate, no loss called success, nothing known called unknown."""
    play(world, ledger=False)


def test_two_runs_with_one_key_never_double_a_message(world: World):
    """The same with a second run that holds the same key in the same ledger."""
    play(world, ledger=True)
