"""Read what Airflow left in its SQLite metadata database."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any


def rows(home: Path, query: str) -> list[tuple[Any, ...]]:
    """Give the rows of a query."""
    with contextlib.closing(sqlite3.connect(home / "airflow.db")) as database:
        return database.execute(query).fetchall()


def returned(home: Path, dag_id: str) -> dict[str, Any]:
    """Give what each task of a DAG returned, by task ID."""
    found = rows(home, f"select task_id, value from xcom where dag_id = '{dag_id}' and key = 'return_value'")
    return {task_id: _parsed(value) for task_id, value in found}


def _parsed(value: Any) -> Any:
    """Undo JSON, once or twice: some versions of Airflow store the text of a JSON document as JSON."""
    while isinstance(value, str | bytes):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    return value
