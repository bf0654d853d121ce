"""Messages whose senders are killed, refused and left without an answer."""

import os
from datetime import timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator

for name in ("accepted", "refused", "lost", "killed"):
    with DAG(f"send_{name}", schedule=None):
        RedoxDataModelPostOperator(
            task_id="post",
            retries=2,
            retry_delay=timedelta(seconds=1),
            payload={
                "Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"},
                "Patient": {"Demographics": {"LastName": "Quillfeather"}, "Notes": [name]},
            },
            resend=Path(os.environ["RESEND_IF"]).exists(),
        )
