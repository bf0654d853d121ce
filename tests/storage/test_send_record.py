"""What an error means for what was sent: the outcome table's word, whatever kind of error it became."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxError
from airflow_provider_redox.protocol.effects import Happened, Request, Stage
from airflow_provider_redox.protocol.exchange import exchange
from airflow_provider_redox.protocol.outcomes import STAGES, STATUSES, RetryPolicy, Step, decide
from airflow_provider_redox.storage.send_record import outcome_of
from tests.protocol.flows import World, answer, failure

REQUEST = Request("POST", "https://api.redoxengine.com/endpoint", "POST /endpoint")
WORDS = {
    Step.AMBIGUOUS: {"ambiguous"},
    Step.FAIL: {"refused", "unsent"},
    Step.RETRY: {"refused", "unsent"},
    Step.RENEW: {"refused"},
}
STATUS = st.one_of(st.integers(300, 599), st.sampled_from([206, *STATUSES]))


def outcome(happened: Happened, *, repeatable: bool) -> str:
    world = World(happened, happened)
    with pytest.raises(RedoxError) as raised:
        env = world.env(retry=RetryPolicy(attempts=1))
        world.run(exchange(REQUEST, lambda _: None, repeatable=repeatable, env=env))
    return outcome_of(raised.value)


@given(
    st.one_of(
        st.builds(answer, STATUS),
        st.builds(lambda status: answer(status, retry_after="1"), STATUS),
        st.builds(failure, st.sampled_from([*STAGES])),
        st.builds(failure, st.sampled_from([Stage.CUT, Stage.OVERSIZE]), st.one_of(st.just(200), STATUS)),
    ),
    st.booleans(),
)
def test_the_line_says_what_the_table_says(happened: Any, repeatable: bool) -> None:  # noqa: FBT001
    """What the table calls ambiguous is so in the line, and nothing else is, also where the author let it be repeated."""
    assert outcome(happened, repeatable=repeatable) in WORDS[decide(happened, repeatable=False)]


@pytest.mark.parametrize("status", [501, 505, 307, 308, 400, 421])
def test_what_was_not_processed_is_refused(status: int) -> None:
    """A clear may send again what the server says that it did not do."""
    assert outcome(answer(status), repeatable=False) == "refused"


@pytest.mark.parametrize("status", [206, 301, 302, 303, 408, 409, 499, 500, 503])
def test_what_may_have_been_processed_is_ambiguous(status: int) -> None:
    """No clear sends again what the server may have done."""
    assert outcome(answer(status), repeatable=False) == "ambiguous"
