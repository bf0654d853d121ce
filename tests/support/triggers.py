"""A deferrable operator for tests: its trigger searches with RedoxAsyncHook."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_redox.hooks.redox import RedoxAsyncHook


class CountTrigger(BaseTrigger):
    """Counts the resources that a search finds."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self.code = code

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "tests.support.triggers.CountTrigger", {"code": self.code}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        async with RedoxAsyncHook() as hook:
            found = [resource["id"] async for resource in hook.fhir_search("Observation", {"code": self.code})]
        yield TriggerEvent(len(found))


class CountOperator(BaseOperator):
    """Defers to a CountTrigger and returns what it counted."""

    def __init__(self, *, code: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.code = code

    def execute(self, context: Any) -> None:
        self.defer(trigger=CountTrigger(self.code), method_name="counted")

    def counted(self, context: Any, event: int) -> int:
        return event
