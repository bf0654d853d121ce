"""Load what a search found into PostgreSQL, and ask there: the newest version of each resource of each hospital, as jsonb.

The lines are envelopes, which say where each resource is from. They are copied into a temporary table and merged from there,
in one transaction: a task that is killed has loaded nothing, and loading the same result twice changes nothing. The
connection `warehouse` names the database.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import DAG, BaseHook, ObjectStoragePath, task

from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.types import Manifest

if TYPE_CHECKING:
    import psycopg

TABLE = """
CREATE TABLE IF NOT EXISTS fhir (
    destination text, type text, id text, version text, last_updated timestamptz,
    search text, run text, pulled_at timestamptz, resource jsonb,
    PRIMARY KEY (destination, type, id)
)
"""

LOAD = """
INSERT INTO fhir
SELECT DISTINCT ON (line->>'destination', line->>'type', line->>'id')
       line->>'destination', line->>'type', line->>'id', line->>'version', (line->>'lastUpdated')::timestamptz,
       line->>'search', line->>'run', (line->>'pulledAt')::timestamptz, line->'resource'
FROM incoming
WHERE line->>'id' IS NOT NULL
ORDER BY line->>'destination', line->>'type', line->>'id', (line->>'lastUpdated')::timestamptz DESC NULLS LAST
ON CONFLICT (destination, type, id) DO UPDATE SET
    version = excluded.version, last_updated = excluded.last_updated, search = excluded.search,
    run = excluded.run, pulled_at = excluded.pulled_at, resource = excluded.resource
WHERE coalesce(excluded.last_updated, excluded.pulled_at) >= coalesce(fhir.last_updated, fhir.pulled_at)
"""

QUERY = """
SELECT coalesce(resource #>> '{clinicalStatus,coding,0,code}', 'not stated'),
       count(DISTINCT destination || '/' || (resource #>> '{subject,reference}'))
FROM fhir WHERE type = 'Condition' GROUP BY 1 ORDER BY 1
"""

with DAG(
    "redox_warehouse_postgres",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    tags=["warehouse", "example"],
    doc_md=__doc__,
):
    conditions = RedoxFhirSearchOperator(
        task_id="conditions",
        resource_type="Condition",
        search_params={"code": "http://snomed.info/sct|44054006", "_include": "Condition:subject"},
        line_format="envelope",
    )

    def connect() -> "psycopg.Connection":
        """Open the warehouse."""
        import psycopg

        described = BaseHook.get_connection("warehouse")
        return psycopg.connect(
            host=described.host,
            port=described.port,
            user=described.login,
            password=described.password,
            dbname=described.schema,
        )

    @task
    def load(manifest: Manifest) -> int:
        """Copy the files of a manifest, from any store, and merge them."""
        with connect() as warehouse, warehouse.cursor() as cursor:
            cursor.execute(TABLE)
            cursor.execute("CREATE TEMPORARY TABLE incoming (line jsonb) ON COMMIT DROP")
            with cursor.copy("COPY incoming FROM STDIN") as copy:
                for file in manifest["output"]:
                    with ObjectStoragePath(file["url"]).open("rb") as lines:
                        for line in lines:
                            copy.write_row([line.decode()])
            cursor.execute(LOAD)
        return sum(file["count"] for file in manifest["output"])

    @task
    def patients_by_status() -> dict[str, int]:
        """Count the patients by the status of their diabetes."""
        with connect() as warehouse:
            return dict(warehouse.execute(QUERY).fetchall())

    load(conditions.output) >> patients_by_status()
