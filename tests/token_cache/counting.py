"""A secrets backend that holds nothing and writes down what it is asked for."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.secrets import BaseSecretsBackend


class CountingBackend(BaseSecretsBackend):
    """Stands for a paid one."""

    def get_variable(self, key: str, team_name: str | None = None) -> None:
        """Note the question."""
        with Path(os.environ["TEST_LOOKUPS"]).open("a") as notes:
            notes.write(f"{key}\n")

    def get_connection(self, conn_id: str, team_name: str | None = None) -> None:
        """Know none."""
