"""The destinations of a connection, for a mapped task each: `.partial(...).expand(destination=redox_destinations())`.

Importing this module loads nothing but Airflow's task decorator.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import task


@task(task_id="redox_destinations", multiple_outputs=False)
def redox_destinations(
    *,
    tag: str | None = None,
    data_model: str | None = None,
    names: list[str] | None = None,
    redox_conn_id: str = "redox_default",
) -> list[str]:
    """Give the names of the destinations that a connection describes in `extra.destinations`, in their order.

    A task, so the connection is read when the DAG runs, and a hospital that is added there is in the next run.

    :param tag: only those that have this tag.
    :param data_model: only those that have a UUID for this data model.
    :param names: only these; one that the connection does not describe is an error.
    :raises RedoxConfigError: none is left.
    """
    from airflow_provider_redox.hooks.edge import failing_for_good
    from airflow_provider_redox.hooks.redox import RedoxHook
    from airflow_provider_redox.protocol.destinations import chosen

    with failing_for_good():
        described = RedoxHook(redox_conn_id).destinations(tag=tag, data_model=data_model)
        every = RedoxHook(redox_conn_id).destinations() if names is not None else described
        return chosen(described, names, known=[one.name for one in every])


__all__ = ["redox_destinations"]
