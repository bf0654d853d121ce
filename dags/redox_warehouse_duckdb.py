"""Load what a search found into DuckDB, and ask there: the newest version of each resource of each hospital, as JSON.

The lines are envelopes, which say where each resource is from. Loading the same result twice changes nothing. The text of a
resource is kept as the hospital sent it, 1.10 as 1.10; DuckDB's own functions read its numbers as floats. What the last task
returns goes into the metadata database: counts, no patient.
"""

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.types import Manifest

DATABASE = os.environ.get("WAREHOUSE_DUCKDB") or f"{os.environ.get('AIRFLOW_HOME', '.')}/redox.duckdb"

TABLE = """
CREATE TABLE IF NOT EXISTS fhir (
    destination VARCHAR, type VARCHAR, id VARCHAR, version VARCHAR, last_updated TIMESTAMPTZ,
    search VARCHAR, run VARCHAR, pulled_at TIMESTAMPTZ, resource JSON,
    PRIMARY KEY (destination, type, id)
)
"""

LOAD = """
INSERT INTO fhir
SELECT json->>'destination', json->>'type', json->>'id', json->>'version', (json->>'lastUpdated')::TIMESTAMPTZ,
       json->>'search', json->>'run', (json->>'pulledAt')::TIMESTAMPTZ,
       -- The resource is the envelope's last member. Cut out, it keeps its digits; json->'resource' would write 1.10 as 1.1.
       (json::VARCHAR)[strpos(json::VARCHAR, ',"resource":') + 12 : -2]
FROM read_ndjson_objects(?)
WHERE json->>'id' IS NOT NULL
QUALIFY row_number() OVER (
    PARTITION BY json->>'destination', json->>'type', json->>'id'
    ORDER BY (json->>'lastUpdated')::TIMESTAMPTZ DESC NULLS LAST
) = 1
ON CONFLICT DO UPDATE SET
    version = excluded.version, last_updated = excluded.last_updated, search = excluded.search,
    run = excluded.run, pulled_at = excluded.pulled_at, resource = excluded.resource
WHERE coalesce(excluded.last_updated, excluded.pulled_at) >= coalesce(fhir.last_updated, fhir.pulled_at)
"""

QUERY = """
SELECT coalesce(resource->>'$.clinicalStatus.coding[0].code', 'not stated') AS status,
       count(DISTINCT destination || '/' || (resource->>'$.subject.reference')) AS patients
FROM fhir WHERE type = 'Condition' GROUP BY status ORDER BY status
"""

with DAG(
    "redox_warehouse_duckdb",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_runs=1,
    tags=["warehouse", "example"],
    doc_md=__doc__,
):
    conditions = RedoxFhirSearchOperator(
        task_id="conditions",
        resource_type="Condition",
        search_params={"code": "http://snomed.info/sct|44054006", "_include": "Condition:subject"},
        line_format="envelope",
    )

    @task
    def load(manifest: Manifest) -> int:
        """Load the files of a manifest, all or none. DuckDB reads a disk; for a bucket, load its extension `httpfs`."""
        import duckdb

        paths = [file["url"].removeprefix("file://") for file in manifest["output"]]
        with duckdb.connect(DATABASE) as warehouse:
            warehouse.execute(TABLE)
            if paths:
                warehouse.execute(LOAD, [paths])
        return sum(file["count"] for file in manifest["output"])

    @task
    def patients_by_status() -> dict[str, int]:
        """Count the patients by the status of their diabetes."""
        import duckdb

        with duckdb.connect(DATABASE, read_only=True) as warehouse:
            return dict(warehouse.execute(QUERY).fetchall())

    load(conditions.output) >> patients_by_status()
