"""The error tree: its shape, what each error knows, and that it survives the way from one process to another."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox import exceptions
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError, words_of

TREE = {
    "RedoxConfigError": "RedoxError",
    "RedoxTransportError": "RedoxError",
    "RedoxProtocolError": "RedoxError",
    "RedoxSecurityError": "RedoxProtocolError",
    "RedoxResponseError": "RedoxError",
    "RedoxAuthError": "RedoxResponseError",
    "RedoxRateLimitError": "RedoxResponseError",
    "RedoxServerError": "RedoxResponseError",
    "RedoxDestinationError": "RedoxResponseError",
    "RedoxIncompleteError": "RedoxError",
    "RedoxEmptyResultError": "RedoxError",
    "RedoxSupersededError": "RedoxError",
    "RedoxDeliveryError": "RedoxError",
    "RedoxAuditError": "RedoxError",
    "RedoxAmbiguousOutcomeError": "RedoxError",
}
RETRYABLE = {
    "RedoxTransportError",
    "RedoxProtocolError",
    "RedoxRateLimitError",
    "RedoxServerError",
    "RedoxAuditError",
    "RedoxEmptyResultError",
    "RedoxSupersededError",
}
ANSWERED = {"status": 422, "issues": ("error invalid", "x"), "trace_id": "trace-1"}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    **{name: ANSWERED for name, parent in TREE.items() if parent == "RedoxResponseError"},
    "RedoxResponseError": ANSWERED,
    "RedoxRateLimitError": {**ANSWERED, "status": 429, "retry_after": 1.5},
    "RedoxDestinationError": {**ANSWERED, "status": 200, "log_ids": ("log-1", "log-2")},
    "RedoxIncompleteError": {"failed": 2, "total": 9, "url": "s3://bucket/searches.ndjson"},
    "RedoxAmbiguousOutcomeError": {"status": 504, "trace_id": "trace-1", "log_ids": ("log-1",)},
}


def classes() -> dict[str, type[RedoxError]]:
    """Every error that the module defines, by name."""
    members = inspect.getmembers(exceptions, inspect.isclass)
    return {name: kind for name, kind in members if issubclass(kind, RedoxError)}


def make(name: str) -> RedoxError:
    """Make an error with every attribute that it can have."""
    return classes()[name]("what happened", **ATTRIBUTES.get(name, {}))


def test_the_tree_is_complete() -> None:
    """The module defines these errors and no other."""
    assert classes().keys() == {"RedoxError", *TREE}


@pytest.mark.parametrize(("name", "parent"), TREE.items())
def test_each_error_has_its_parent(name: str, parent: str) -> None:
    """Whoever catches a branch of the tree catches what hangs on it."""
    assert classes()[name].__bases__ == (classes()[parent],)


def test_the_docstring_draws_the_tree() -> None:
    """The drawing at the head of the module has each error below its parent."""
    drawn: dict[str, str] = {}
    path: list[tuple[int, str]] = [(0, "RedoxError")]
    for line in (exceptions.__doc__ or "").splitlines():
        found = re.match(r"[ │├└─]+(Redox\w+)", line)
        if found and found[1] != "RedoxError":
            depth = found.start(1)
            path = [step for step in path if step[0] < depth]
            drawn[found[1]] = path[-1][1]
            path.append((depth, found[1]))
    assert drawn == TREE


@pytest.mark.parametrize("name", ["RedoxError", *TREE])
def test_each_error_knows_whether_a_retry_can_help(name: str) -> None:
    """What may pass by itself can be retried; what someone must mend, and what may have been done, cannot."""
    assert make(name).retryable is (name in RETRYABLE)


@pytest.mark.parametrize("name", ["RedoxError", *TREE])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_each_error_survives_pickling_whole(name: str, protocol: int) -> None:
    """Class, message and every attribute are the same after pickling, by any protocol."""
    error = make(name)
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    for attribute, value in ATTRIBUTES.get(name, {}).items():
        assert getattr(again, attribute) == value


@pytest.mark.parametrize("name", ["RedoxError", *TREE])
def test_each_error_survives_copying(name: str) -> None:
    """A copy of an error is that error."""
    assert vars(copy.copy(make(name))) == vars(make(name))


def test_notes_survive_pickling() -> None:
    """What was added to an error on its way up arrives with it."""
    error = make("RedoxProtocolError")
    error.add_note("The search for Patient stopped at page 2.")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["The search for Patient stopped at page 2."]


def test_what_one_error_knows_better_survives_pickling() -> None:
    """An error that differs from its class in whether a retry helps differs in another process too."""
    error = make("RedoxTransportError")
    error.retryable = False
    assert pickle.loads(pickle.dumps(error)).retryable is False


@pytest.mark.parametrize("name", sorted({*ATTRIBUTES}))
def test_attributes_have_defaults(name: str) -> None:
    """What an error is not told is 0, empty or None; a rate limit is a 429 and a destination's error came with a 200."""
    known = vars(classes()[name]("what happened"))
    status = {"RedoxRateLimitError": 429, "RedoxDestinationError": 200}.get(name, 0)
    expected = {"status": status, "issues": (), "trace_id": None, "retry_after": None, "log_ids": ()}
    expected |= {"failed": 0, "total": 0, "url": None}
    assert known == {attribute: expected[attribute] for attribute in ATTRIBUTES[name]}


@given(st.text(), st.integers(), st.lists(st.text()), st.none() | st.text(), st.none() | st.floats(allow_nan=False))
def test_any_values_survive_pickling(
    message: str, status: int, issues: list[str], trace_id: str | None, retry_after: float | None
) -> None:
    """Whatever an error says, it says the same in another process."""
    error = exceptions.RedoxRateLimitError(
        message, status=status, issues=tuple(issues), trace_id=trace_id, retry_after=retry_after
    )
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_what_was_noted_is_a_sentence_of_its_own() -> None:
    """Airflow shows one line: the message, then where it happened."""
    error = RedoxConfigError("row: empty")
    assert words_of(error) == "row: empty"
    error.add_note("This is row 1.")
    assert words_of(error) == "row: empty. This is row 1."
