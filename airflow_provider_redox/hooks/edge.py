"""The edge to Airflow's retries: what no retry can heal becomes AirflowFailException, with the Redox error as its cause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import RedoxError, words_of


@contextmanager
def failing_for_good() -> Iterator[None]:
    """Turn an error that no retry can heal into AirflowFailException, so that Airflow does not try again."""
    try:
        yield
    except RedoxError as error:
        if error.retryable:
            raise
        raise final(error) from error


def final(error: RedoxError) -> AirflowFailException:
    """Make the AirflowFailException for an error, with its notes; to be raised from it."""
    return AirflowFailException(f"{type(error).__name__}: {words_of(error)}")
