"""What it looks like when a door refuses an argument."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError


@contextmanager
def refused(words: str = "", error: type[RedoxError] = RedoxConfigError) -> Iterator[list[str]]:
    """Expect a refusal: an error of ours when the DAG is read, or one for good when the task runs."""
    said: list[str] = []
    with pytest.raises((error, AirflowFailException)) as caught:
        yield said
    found = caught.value if isinstance(caught.value, error) else caught.value.__cause__
    assert isinstance(found, error), caught.value
    assert words in str(found)
    said.append(str(found))
