"""What triggers are tested with."""

from __future__ import annotations

import pytest

from tests.support.tasks import logs, quick_polling

__all__ = ["logs", "quick_polling"]


@pytest.fixture(autouse=True)
def _quick(quick_polling: None) -> None:
    """Every test here polls quickly."""
