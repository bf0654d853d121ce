"""Run by test_shared.py in processes and an Airflow home of their own: DAGs whose tasks begin with an empty memory.

Each task writes one line to the file that the environment names: the task, the token's digest, what it saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseOperator, Variable, task
from airflow.triggers.base import BaseTrigger, TriggerEvent
from airflow.utils import db

from airflow_provider_redox.client.slots import MemorySlot
from airflow_provider_redox.exceptions import RedoxResponseError
from airflow_provider_redox.hooks.redox import RedoxAsyncHook, RedoxHook
from airflow_provider_redox.protocol.token import Token
from airflow_provider_redox.token_cache import seal_of

_running = [""]


def note(name: str, token: str, **more: Any) -> None:
    line = {"run": _running[0], "task": name, "token": hashlib.sha256(token.encode()).hexdigest(), **more}
    with Path(os.environ["TEST_NOTES"]).open("a") as notes:
        notes.write(json.dumps(line) + "\n")


def use_a_token(name: str, conn_id: str) -> None:
    """Do what a task does in a process of its own: it has no memory, and asks for a token to use it."""
    MemorySlot.forget_all()
    hook = RedoxHook(conn_id)
    with contextlib.suppress(RedoxResponseError):  # there is no such log; the token is accepted all the same
        hook.get_log("none")
    note(name, hook.get_access_token())
    hook.client.close()


class TokenTrigger(BaseTrigger):
    """Ask for a token in the triggerer."""

    def __init__(self, conn_id: str) -> None:
        super().__init__()
        self.conn_id = conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what the database keeps."""
        return "tests.token_cache.airflow_side.TokenTrigger", {"conn_id": self.conn_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Have ten hooks ask at once."""
        MemorySlot.forget_all()

        async def ask() -> str:
            async with RedoxAsyncHook(self.conn_id) as hook:
                return await hook.get_access_token()

        tokens = set(await asyncio.gather(*(ask() for _ in range(10))))
        note("trigger", tokens.pop(), alone=not tokens)
        yield TriggerEvent("done")


class Deferring(BaseOperator):
    """Defer to the trigger, then use a token after it."""

    def __init__(self, *, conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def execute(self, context: Any) -> None:
        """Defer."""
        self.defer(trigger=TokenTrigger(self.conn_id), method_name="after")

    def after(self, context: Any, event: Any) -> None:
        """Go on."""
        use_a_token("after the trigger", self.conn_id)


def name_of(conn_id: str) -> str:
    settings = RedoxHook(conn_id).client.settings
    return seal_of(settings, Token).name


def sharing(conn_id: str) -> DAG:
    """Make a DAG of tasks one after the other, mapped ones and a deferred one among them."""
    with DAG(dag_id=f"sharing_{conn_id}", schedule=None) as dag:

        @task
        def first() -> None:
            use_a_token("first", conn_id)

        @task
        def second() -> None:
            use_a_token("second", conn_id)

        @task
        def mapped(number: int) -> None:
            use_a_token(f"mapped {number}", conn_id)

        first() >> second() >> mapped.expand(number=[1, 2, 3]) >> Deferring(task_id="deferring", conn_id=conn_id)
    return dag


def only_mapped(conn_id: str) -> DAG:
    """Make a DAG that has mapped tasks only."""
    with DAG(dag_id=f"only_mapped_{conn_id}", schedule=None) as dag:

        @task
        def mapped(number: int) -> None:
            use_a_token(f"only mapped {number}", conn_id)

        mapped.expand(number=[1, 2, 3])
    return dag


def spoiling(conn_id: str) -> DAG:
    """Make a DAG in which somebody writes rubbish where the token lies."""
    with DAG(dag_id=f"spoiling_{conn_id}", schedule=None) as dag:

        @task
        def spoil(rubbish: str) -> None:
            MemorySlot.forget_all()
            Variable.set(name_of(conn_id), rubbish)
            use_a_token(f"spoiled with {rubbish}", conn_id)

        @task
        def look() -> None:
            use_a_token("looked again", conn_id)
            note("variable", "", text=Variable.get(name_of(conn_id)))

        spoil("v1.rubbish") >> look()
    return dag


DAGS = {"sharing": sharing, "only_mapped": only_mapped, "spoiling": spoiling}


def main(*wanted: str) -> None:
    """Run DAGs, each named as `kind:conn_id`, after making the database where there is none."""
    if not (Path(os.environ["AIRFLOW_HOME"]) / "airflow.db").exists():
        db.initdb()
    for one in wanted:
        kind, _, conn_id = one.partition(":")
        _running[0] = one
        run = DAGS[kind](conn_id).test()
        note("end", "", state=str(run.state))
