"""What Airflow reads about this package."""

from __future__ import annotations


def get_provider_info() -> dict[str, object]:
    return {"package-name": "airflow-provider-redox", "name": "Redox", "description": "Redox"}
