"""The messages that the sandbox pushes of its own: a result of an invented patient."""

from __future__ import annotations

import time
import uuid
from typing import Any

from .names import DESTINATIONS
from .store import instant

SOURCE = {"ID": "7ce6f387-c33c-417d-8682-81e83628cbd9", "Name": "General Hospital"}


def result(number: int, data_model: str, event_type: str, *, test: bool) -> dict[str, Any]:
    """Make the message of a number: a new log ID, the same shape."""
    now = instant(time.time())
    return {
        "Meta": {
            "DataModel": data_model,
            "EventType": event_type,
            "EventDateTime": now,
            "Test": test,
            "Source": SOURCE,
            "Destinations": [{"ID": DESTINATIONS["general"]["id"], "Name": "airflow"}],
            "Logs": [{"ID": str(uuid.uuid4()), "AttemptID": str(uuid.uuid4())}],
        },
        "Patient": {
            "Identifiers": [{"ID": "0000000001", "IDType": "MR"}],
            "Demographics": {"FirstName": "Keva", "LastName": "Green", "DOB": "1995-08-26", "Sex": "Female"},
        },
        "Orders": [
            {
                "ID": f"order-{number}",
                "Status": "Resulted",
                "CompletionDateTime": now,
                "Results": [
                    {
                        "Code": "2345-7",
                        "Codeset": "LOINC",
                        "Description": "Glucose",
                        "Value": f"{80 + number % 40}.0",
                        "ValueType": "Numeric",
                        "Units": "mg/dL",
                        "Status": "Final",
                        "CompletionDateTime": now,
                    }
                ],
            }
        ],
    }
