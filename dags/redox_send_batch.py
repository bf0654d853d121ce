"""Send a file of messages: the night's appointments, those of each patient in their order.

The first task writes the messages to storage, one JSON object on each line, and tells the next one where. No message
enters the metadata database. With workers on several machines, set REDOX_OUTBOX to an object store such as
`s3://aws_default@my-bucket/outbox`.
"""

import json
import os
import re
import tempfile

from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, task

from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator

OUTBOX = os.environ.get("REDOX_OUTBOX", f"file://{tempfile.gettempdir()}/redox-outbox")
EVENTS = ("New", "Reschedule")

with DAG("redox_send_batch", schedule=None, default_args={"retries": 3}, tags=["redox", "example"], doc_md=__doc__):

    @task
    def build(run_id: str | None = None) -> str:
        """Write two messages for each of a hundred patients; a second try of the run writes the same file."""
        night = re.sub(r"[^\w-]", "_", run_id or "")
        file = ObjectStoragePath(f"{OUTBOX}/appointments-{night}.ndjson")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w") as out:
            for number in range(200):
                message = {
                    "Meta": {"DataModel": "Scheduling", "EventType": EVENTS[number // 100]},
                    "Patient": {"Identifiers": [{"ID": f"{number % 100:010d}", "IDType": "MR"}]},
                    "Visit": {"VisitNumber": f"{night}-{number % 100}"},
                }
                out.write(f"{json.dumps(message)}\n")
        return str(file)

    RedoxDataModelPostOperator(
        task_id="send",
        destination="general",
        payload_path=build(),
        ordering_key="/Patient/Identifiers/0/ID",
        segment_size=50,
    )
