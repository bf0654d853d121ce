"""What `**kwargs` of our operators and sensors stands for, so that an editor completes it and a type checker finds a typo.

For type checkers only: nothing imports this when a DAG runs. Names are those of all supported Airflows together; a test
holds that none of the installed one is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Required, TypedDict


class TaskArguments(TypedDict, total=False):
    """What Airflow's BaseOperator takes."""

    task_id: Required[str]
    owner: str
    email: str | Sequence[str] | None
    email_on_retry: bool
    email_on_failure: bool
    retries: int | None
    retry_delay: timedelta | float
    retry_exponential_backoff: float
    max_retry_delay: timedelta | float | None
    retry_policy: Any
    start_date: datetime | None
    end_date: datetime | None
    depends_on_past: bool
    ignore_first_depends_on_past: bool
    wait_for_past_depends_before_skipping: bool
    wait_for_downstream: bool
    dag: Any
    params: MutableMapping[str, Any] | None
    default_args: dict[str, Any] | None
    priority_weight: int
    weight_rule: Any
    queue: str
    pool: str | None
    pool_slots: int
    sla: timedelta | None
    execution_timeout: timedelta | None
    on_execute_callback: Any
    on_failure_callback: Any
    on_success_callback: Any
    on_retry_callback: Any
    on_skipped_callback: Any
    pre_execute: Any
    post_execute: Any
    trigger_rule: str
    resources: dict[str, Any] | None
    run_as_user: str | None
    map_index_template: str | None
    max_active_tis_per_dag: int | None
    max_active_tis_per_dagrun: int | None
    executor: str | None
    executor_config: dict[str, Any] | None
    do_xcom_push: bool
    multiple_outputs: bool
    inlets: Any
    outlets: Collection[Any] | Any
    task_group: Any
    doc: str | None
    doc_md: str | None
    doc_json: str | None
    doc_yaml: str | None
    doc_rst: str | None
    task_display_name: str | None
    logger_name: str | None
    allow_nested_operators: bool
    render_template_as_native_obj: bool | None


class RedoxArguments(TaskArguments, total=False):
    """What `RedoxOperator` takes besides."""

    redox_conn_id: str
    destination: str | None
    environment: str | None
    headers: Mapping[str, str] | None
    audit: Literal["required", "best_effort", "off"] | None


class DeliveringArguments(RedoxArguments, total=False):
    """What `DeliveringOperator` takes besides."""

    wait_for_delivery: bool
    deferrable: bool
    delivery_timeout: timedelta | float
    poll_interval: float


class WaitingArguments(TaskArguments, total=False):
    """What Airflow's BaseSensorOperator takes, but for `poke_interval`."""

    timeout: timedelta | float | None
    soft_fail: bool
    mode: str
    exponential_backoff: bool
    max_wait: timedelta | float | None
    silent_fail: bool
    never_fail: bool


class SensorArguments(WaitingArguments, total=False):
    """What Airflow's BaseSensorOperator takes."""

    poke_interval: timedelta | float


class RedoxSensorArguments(SensorArguments, total=False):
    """What `RedoxSensor` takes besides."""

    redox_conn_id: str
    deferrable: bool
