"""Two tries of one send at once: one was taken for dead, and thaws. Whenever that is, the message arrives once.

Airflow begins a second try when a worker's heartbeats stop, which a frozen one's do
(https://github.com/apache/airflow/issues/33155). Every freeze point of the first try is played against a whole second try,
and, for a message with a file, against each point of the second one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxSupersededError
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.operators.fhir_writeback import RedoxFhirWritebackOperator
from airflow_provider_redox.operators.request import RedoxRequestOperator
from airflow_provider_redox.operators.sends import batching, posting
from airflow_provider_redox.operators.upload import RedoxUploadOperator
from airflow_provider_redox.storage import send_marker
from airflow_provider_redox.storage.send_marker import Mark
from tests.support.freezing import Frozen, effects_of, gated
from tests.support.sandbox import Sandbox

OBSERVATION = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
BUNDLE = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": OBSERVATION}]}
META = {"DataModel": "PatientAdmin", "EventType": "NewPatient"}


class Sends:
    """One task instance, whose tries are made anew each time, and what the server has received of it."""

    def __init__(self, sandbox: Sandbox, root: Path, make: Callable[[str], Any], arrived: str) -> None:
        self.sandbox, self.root, self.run = sandbox, root, 0
        self._make, self._arrived, self._before = make, arrived, 0

    def anew(self) -> None:
        """Begin with another run, of which nothing was sent."""
        self.run += 1
        self._before = self._count()

    @property
    def arrived(self) -> int:
        return self._count() - self._before

    def _count(self) -> int:
        return len(self.sandbox.ledger(self._arrived))

    def attempt(self, number: int = 1, **changed: Any) -> Callable[[], Any]:
        """Make a try of the task."""
        ti = SimpleNamespace(dag_id="feed", run_id=f"run-{self.run}", task_id="send", map_index=-1)
        ti.try_number, ti.max_tries = number, 5
        operator = self._make(f"file://{self.root}/out")
        for name, value in changed.items():
            setattr(operator, name, value)
        return lambda: operator.execute({"ti": ti})


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> dict[str, Mark]:
    """The metadata database, whose every operation is an effect."""
    kept: dict[str, Mark] = {}

    def marker_of(ti: Any, number: int = 0) -> SimpleNamespace:
        name = f"{ti.run_id}/{number}"
        return SimpleNamespace(
            read=gated("mark", lambda: kept.get(name)),
            write=gated("mark", lambda mark: kept.update({name: mark})),
            clear=gated("mark", lambda: kept.pop(name, None)),
        )

    for module in (send_marker, posting, batching):
        monkeypatch.setattr(module, "marker_of", marker_of)
    return kept


def message(path: Path) -> Callable[[str], Any]:
    payload = {"Meta": META, "Document": {"FileContents": {"$upload": str(path)}}}
    return lambda out: RedoxDataModelPostOperator(task_id="send", payload=payload, results_path=out)


def batch(path: Path) -> Callable[[str], Any]:
    path.with_name("batch").write_text('{"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}}\n')
    return lambda out: RedoxDataModelPostOperator(
        task_id="send", payload_path=f"file://{path.with_name('batch')}", results_path=out, max_concurrency=1
    )


def writeback(_: Path) -> Callable[[str], Any]:
    return lambda out: RedoxFhirWritebackOperator(
        task_id="send", resource_type="Observation", operation="$observation-create", bundle=BUNDLE, output_path=out
    )


def request(_: Path) -> Callable[[str], Any]:
    meta = {**META, "Destinations": [{"ID": "0f4bd1d1-451d-4351-8cfd-b767d1b488d6"}]}
    return lambda out: RedoxRequestOperator(
        task_id="send", method="POST", path="/endpoint", json={"Meta": meta}, output_path=out
    )


def upload(path: Path) -> Callable[[str], Any]:
    return lambda out: RedoxUploadOperator(task_id="send", paths=[str(path), str(path)], output_path=out)


KINDS = {
    "message": (message, "/endpoint", 1),
    "batch": (batch, "/endpoint", 1),
    "writeback": (writeback, "/$observation-create", 1),
    "request": (request, "/endpoint", 1),
    "upload": (upload, "/upload", 2),
}


@pytest.fixture
def sends(request: Any, redox_connection: Sandbox, tmp_path: Path, freezing: Any, database: Any) -> Sends:
    make, arrived, _ = KINDS[request.param]
    path = tmp_path / "scan"
    path.write_bytes(b"a scan")
    return Sends(redox_connection, tmp_path, make(path), arrived)


def judge(sends: Sends, expected: int, tries: list[Frozen], where: str) -> None:
    """One of them has sent, and knows it; the other says what is true."""
    assert sends.arrived == expected, where
    assert any(one.error is None for one in tries), f"{where}: {[one.error for one in tries]}"
    for one in tries:
        if one.error is not None:
            cause = one.error.__cause__ if isinstance(one.error, AirflowFailException) else one.error
            assert isinstance(cause, RedoxAmbiguousOutcomeError | RedoxSupersededError), f"{where}: {one.error!r}"


@pytest.mark.parametrize(("sends", "expected"), [(name, KINDS[name][2]) for name in KINDS], indirect=["sends"])
def test_a_try_that_thaws_does_not_send_what_another_sent(sends: Sends, expected: int) -> None:
    """Frozen before any of its effects, while the next try runs from its beginning to its end."""
    sends.anew()
    effects = effects_of(sends.attempt())
    assert effects >= 8
    for point in range(effects):
        sends.anew()
        first = Frozen(sends.attempt(), point).start()
        second = Frozen(sends.attempt(2)).start()
        first.thaw()
        judge(sends, expected, [first, second], f"frozen before effect {point} ({first.at})")
        # What stands at the end is known to who comes later: it sends nothing.
        later = Frozen(sends.attempt(3)).start()
        assert sends.arrived == expected, f"frozen before effect {point} ({first.at})"
        assert later.error is None or isinstance(later.error, AirflowFailException)


@pytest.mark.parametrize("sends", ["message"], indirect=True)
def test_two_tries_that_take_turns_send_once(sends: Sends) -> None:
    """Each frozen before any of its effects: the first, then the second, then the first goes on, then the second."""
    sends.anew()
    effects = effects_of(sends.attempt())
    for point in range(1, effects, 2):
        for other in range(2, effects, 2):
            sends.anew()
            first = Frozen(sends.attempt(), point).start()
            second = Frozen(sends.attempt(2), other).start()
            first.thaw()
            second.thaw()
            judge(sends, 1, [first, second], f"{point} ({first.at}), {other} ({second.at})")


@pytest.mark.parametrize("sends", ["message"], indirect=True)
def test_a_try_that_was_overtaken_by_a_resend_looks_again(sends: Sends) -> None:
    """The author had it sent again: the frozen try, which had not sent, does not add a second one.

    Only a freeze between the last look and the bytes is out of reach, for which the author has answered.
    """
    sends.anew()
    effects = effects_of(sends.attempt(on_ambiguous="resend"))
    for point in range(effects):
        sends.anew()
        first = Frozen(sends.attempt(on_ambiguous="resend"), point).start()
        had_sent = sends.arrived
        second = Frozen(sends.attempt(2, on_ambiguous="resend")).start()
        assert sends.arrived <= had_sent + 1
        before, at = sends.arrived, first.at
        first.thaw()
        assert sends.arrived == before or at == "send" or before == 0, f"{point} ({at})"
        assert second.error is None
