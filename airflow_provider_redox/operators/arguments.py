"""Checks of operators' arguments: early, each complaint with the argument's name and what it may be."""

from __future__ import annotations

from typing import Any

from airflow_provider_redox.exceptions import RedoxConfigError

CONCURRENCY_AT_MOST = 64


def check_choices(operator: Any, **choices: tuple[str | None, ...]) -> None:
    """Check arguments that are one of some words; None among them may be left out. Raises `RedoxConfigError`."""
    for name, allowed in choices.items():
        if getattr(operator, name) not in allowed:
            raise RedoxConfigError(f"{name}: must be one of {', '.join(filter(None, allowed))}")


def check_whole_numbers(operator: Any, **ranges: tuple[int, int | None]) -> None:
    """Check arguments that are whole numbers from the first on, up to the second. Raises `RedoxConfigError`."""
    for name, (least, most) in ranges.items():
        value = getattr(operator, name)
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not is_number or value < least or (most is not None and value > most):
            raise RedoxConfigError(f"{name}: must be a whole number from {least}{'' if most is None else f' to {most}'}")
