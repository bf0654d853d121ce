"""Whatever befalls a batch, nothing is doubled that nobody asked for, nothing lost, and nothing unknown that was answered.

The machine of single sends, extended to segments: tries of one task instance that sends a file of messages, side by side, to
a real sandbox, which commits and then drops, resets, stalls or lies to some of them; workers are killed before any operation
on storage or on the marker, before a message leaves and after one has arrived; stores fail once; disks go; tasks are retried
and cleared. The judge is the sandbox's own list of messages that it has processed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from airflow_provider_redox.client.slots import MemorySlot
from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.exceptions import RedoxError
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.operators.sends import batching
from airflow_provider_redox.protocol.effects import Request
from tests.operators.test_sends_model import (
    ARRIVED,
    FAULTS,
    HARMLESS,
    LOST,
    RETRIES,
    TOKENLESS,
    TRIES_OF_A_REQUEST,
    KilledError,
    World,
)
from tests.support.sandbox import Sandbox

COUNT, SEGMENT = 6, 2
NUMBERS = range(COUNT)


class BatchWorld(World):
    """The world of single sends, for several threads: a kill kills all of them."""

    def __init__(self, sandbox: Sandbox, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lock = Lock()
        super().__init__(sandbox, root, monkeypatch)
        monkeypatch.setattr(batching, "marker_of", lambda ti: self.database.marker_of(ti))
        self.file = root.parent / "messages.ndjson"
        self.file.write_text("".join(f"{json.dumps(message(number))}\n" for number in NUMBERS))

    def operate(self) -> None:
        with self.lock:
            super().operate()

    def mortal_send(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def send(client: SyncClient, request: Request) -> Any:
            if not request.url.endswith("/endpoint"):
                return real(client, request)
            self.die()
            happened = real(client, request)
            if self.left == ARRIVED:
                self.left = 0
            self.die()
            return happened

        return send

    def counts(self) -> Counter[int]:
        """How often each message has been processed."""
        bodies = (one["body"] for one in self.sandbox.control("GET", "messages"))
        found = (body["Patient"]["Identifiers"][0]["ID"] for body in bodies if "Patient" in body)
        return Counter(int(mrn.removeprefix("MRN-")) for mrn in found)


def message(number: int) -> dict[str, Any]:
    patient = {"Identifiers": [{"ID": f"MRN-{number}", "IDType": "MR"}], "Demographics": {"LastName": "Quillfeather"}}
    meta = {"DataModel": "PatientAdmin", "EventType": "NewPatient"}
    return {"Meta": meta, "Patient": patient, "Visit": {"ID": str(number % 2)}}


class Try(NamedTuple):
    """What is done to one try. `hit` are the messages that meet the fault."""

    on_ambiguous: str = "fail"
    fault: str | None = None
    hit: tuple[int, ...] = ()
    kill: int | None = None
    broken: int | None = None
    reachable: bool = True
    lose_disk: bool = False
    width: int = 2

    @property
    def lived(self) -> bool:
        return self.kill is None and self.broken is None

    @property
    def quiet(self) -> bool:
        return self.lived and self.fault is None and self.reachable


faults = st.sampled_from(sorted(LOST)) | st.sampled_from(sorted(HARMLESS))
hits = st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=2, unique=True).map(tuple)
kills = st.just(ARRIVED) | st.integers(3, 30)
widths = st.sampled_from([1, 2, 4])
modes = st.sampled_from(["fail", "fail", "fail", "resend"])


def trying(**adversities: Any) -> st.SearchStrategy[Try]:
    """Tries with these adversities, and no other."""
    return st.fixed_dictionaries({"on_ambiguous": modes, "width": widths, **adversities}).map(lambda drawn: Try(**drawn))


tries = st.one_of(  # one adversity at a time is what most often shows something; all at once only end a try early
    trying(kill=kills),
    trying(kill=kills, lose_disk=st.booleans()),
    trying(fault=faults, hit=hits),
    trying(fault=faults, hit=hits, kill=kills),
    trying(broken=st.integers(1, 30)),
    trying(reachable=st.just(value=False)),
    trying(lose_disk=st.booleans()),
)


@dataclass
class Known:
    """What the judge knows.

    :param told: messages that a result called accepted, and storage still knows it.
    :param doubted: messages that may have arrived without an answer.
    :param lost: storage is gone while the batch was open.
    """

    told: set[int] = field(default_factory=set)
    doubted: set[int] = field(default_factory=set)
    lost: bool = False


class Batches(RuleBasedStateMachine):
    """Tries of one batch."""

    world: BatchWorld
    ordered: bool

    def __init__(self) -> None:
        super().__init__()
        self.world.begin()
        self.known = Known()
        self.budget = dict.fromkeys(NUMBERS, 1)
        self.try_number, self.max_tries = 0, RETRIES

    @rule(what=tries)
    def airflow_tries(self, what: Try) -> None:
        """A run, a retry, or a try for a task whose scheduler is gone."""
        self._try(what, resend=False)

    @rule(what=tries, resend=st.sampled_from([False, False, True]))
    def the_author_clears(self, what: Try, *, resend: bool) -> None:
        """A clear, with `resend=True` or without."""
        self.max_tries = self.try_number + RETRIES
        self._try(what, resend=resend)

    @rule()
    def nothing_stands_against_it(self) -> None:
        """A quiet retry: whatever came before, all that may be sent has been sent after it."""
        self._try(Try(), resend=False)

    def _try(self, what: Try, *, resend: bool) -> None:
        world = self.world
        self.try_number += 1
        asked = resend and (self.try_number == 1 or self.max_tries - RETRIES == self.try_number - 1)
        if what.lose_disk and world.database.marks:
            shutil.rmtree(world.root / "results", ignore_errors=True)
            self.known = Known(lost=True)
        elif what.lose_disk:
            return
        before = world.counts()
        summary, error = self._execute(what, resend=resend)
        new = world.counts() - before
        again = TRIES_OF_A_REQUEST if what.on_ambiguous == "resend" else 1
        for number in NUMBERS:
            self.budget[number] += again if asked or what.on_ambiguous == "resend" else 0
            assert before[number] + new[number] <= self.budget[number], f"message {number} was doubled"
        if asked:
            self.known = Known()
        else:
            assert not any(new[number] for number in self.known.told), "what is known to be there was sent again"
        if self.known.lost:
            assert not new, "nothing is known any more, and something was sent"
        self._judge(what, summary, error, before, new)

    def _judge(self, what: Try, summary: Any, error: Any, before: Counter[int], new: Counter[int]) -> None:
        said = json.dumps(summary) + repr(error) + " ".join(getattr(error, "__notes__", ()))
        assert "Quillfeather" not in said
        assert "MRN-" not in said
        lines = self._lines() if what.lived and not self.known.lost else {}
        hit = set(what.hit) if what.fault in LOST else set()
        for number, outcome in lines.items():
            if outcome == "accepted":
                assert before[number] + new[number] >= 1, "a loss was called accepted"
            if new[number] and number not in hit and number not in self.known.doubted:
                assert outcome == "accepted", f"the answer to message {number} came, and it was called {outcome}"
        if summary is not None:
            assert (summary["accepted"], summary["refused"], summary["ambiguous"]) == (COUNT, 0, 0)
            assert all(before[number] + new[number] >= 1 for number in NUMBERS), "a loss was called success"
        self._remember(what, lines, new, killed=isinstance(error, KilledError))
        if what.quiet and not self.known.lost:
            held = self._held(lines)
            for number in NUMBERS:
                if number not in self.known.doubted and number not in held:
                    assert lines[number] == "accepted", f"nothing stood against message {number}: {lines[number]}, {error!r}"
            if not self.known.doubted:
                assert summary is not None, f"nothing stood against it: {error!r}"

    def _held(self, lines: dict[int, str]) -> set[int]:
        """Give what an order holds back: what comes after a message that is not settled."""
        open_keys = {number % 2: number for number in reversed(NUMBERS) if lines.get(number) != "accepted"}
        return {number for number in NUMBERS if self.ordered and number > open_keys.get(number % 2, COUNT)}

    def _remember(self, what: Try, lines: dict[int, str], new: Counter[int], *, killed: bool) -> None:
        known = self.known
        known.told |= {number for number, outcome in lines.items() if outcome == "accepted"}
        known.doubted -= known.told
        if not what.reachable:
            return
        if what.fault is not None and what.fault not in TOKENLESS:
            known.doubted |= set(what.hit) - known.told
        if not what.lived or killed:
            left = set(NUMBERS) - known.told
            begun = {number for number in left if new[number]} | known.doubted
            segments = {number // SEGMENT for number in begun} | ({min(left) // SEGMENT} if left else set())
            # Which segment was on its way nobody tells the judge; the next quiet try has to know all others.
            known.doubted |= {number for number in left if number // SEGMENT in segments or self._intended(number)}

    def _intended(self, number: int) -> bool:
        files = (self.world.root / "results").rglob("*.intents.json")
        return any([number + 1] in [one[:1] for one in json.loads(file.read_text())["messages"]] for file in files)

    def _lines(self) -> dict[int, str]:
        files = list((self.world.root / "results").rglob("type=DataModelPost/**/*.ndjson"))
        lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        assert [line["index"] for line in lines] == list(range(len(lines)))
        return {line["index"]: line["outcome"] for line in lines}

    def _execute(self, what: Try, *, resend: bool) -> tuple[dict[str, Any] | None, BaseException | None]:
        world = self.world
        world.sandbox.control("DELETE", "faults")
        if what.fault in TOKENLESS:
            world.sandbox.fault(match={"path": "/auth/token$"}, times=9, **FAULTS[what.fault])
            MemorySlot.forget_all()
        elif what.fault is not None:
            for number in what.hit:
                world.sandbox.fault(match={"path": "/endpoint$", "body": f'"MRN-{number}"'}, times=9, **FAULTS[what.fault])
        world.monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", world.hosts[what.reachable])
        ti = SimpleNamespace(dag_id="feed", run_id="a", task_id="post", map_index=-1)
        ti.try_number, ti.max_tries = self.try_number, self.max_tries
        operator = RedoxDataModelPostOperator(
            task_id="post",
            payload_path=f"file://{world.file}",
            results_path=f"file://{world.root}/results",
            on_ambiguous=what.on_ambiguous,
            resend=resend,
            retries=RETRIES,
            max_concurrency=what.width,
            segment_size=SEGMENT,
            ordering_key="/Visit/ID" if self.ordered else None,
        )
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


@pytest.fixture
def world(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BatchWorld:
    """The world of one machine."""
    return BatchWorld(sandbox, tmp_path / "world", monkeypatch)


def play(world: BatchWorld, *, ordered: bool) -> None:
    machine = type("Played", (Batches,), {"world": world, "ordered": ordered})
    checks = list(HealthCheck)
    examples = int(os.environ.get("FUZZ", "60"))
    plan = settings(
        max_examples=examples, stateful_step_count=5, deadline=None, suppress_health_check=checks, print_blob=True
    )
    run_state_machine_as_test(machine, settings=plan)


def test_a_batch_never_doubles_or_loses_a_message(world: BatchWorld):
    """Tries, clears and kills of one batch: no duplicate, no loss, nothing answered called unknown."""
    play(world, ordered=False)


def test_a_batch_that_keeps_an_order_never_does_either(world: BatchWorld):
    """The same where messages of a key follow each other, and what is not settled holds back what comes after it."""
    play(world, ordered=True)
