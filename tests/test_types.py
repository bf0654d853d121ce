"""What an editor and a type checker know of the package, held against what is."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator, BaseSensorOperator

from airflow_provider_redox import types
from airflow_provider_redox.downstream import merge_manifests, read_searches
from airflow_provider_redox.operators import signatures
from airflow_provider_redox.operators.base import RedoxOperator
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.operators.delivering import DeliveringOperator
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.sensors.base import RedoxSensor
from tests.support.sandbox import Sandbox

ROOT = Path(__file__).parents[1]


def named(made: Any) -> set[str]:
    """The names that a class's own constructor takes."""
    parameters = inspect.signature(made.__init__).parameters.values()
    return {one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)} - {"self"}


def keys(shape: Any) -> set[str]:
    """All keys of a TypedDict."""
    return set(shape.__annotations__)


def test_no_argument_of_airflow_is_missing():
    """Whatever the installed Airflow's BaseOperator and BaseSensorOperator take, a type checker lets ours take."""
    long_gone = {"task_concurrency"}  # Airflow 2 takes it with a warning
    assert named(BaseOperator) - long_gone <= keys(signatures.TaskArguments)
    assert named(BaseSensorOperator) <= keys(signatures.SensorArguments)


def test_the_arguments_that_ours_share_are_those_of_their_bases():
    """What an operator takes by way of its base is what the base takes, name for name."""
    assert keys(signatures.RedoxArguments) - keys(signatures.TaskArguments) == named(RedoxOperator)
    assert keys(signatures.DeliveringArguments) - keys(signatures.RedoxArguments) == named(DeliveringOperator)
    assert keys(signatures.RedoxSensorArguments) - keys(signatures.SensorArguments) == named(RedoxSensor)


MISTAKES = """
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.types import Manifest

RedoxFhirSearchOperator(task_id="a", resource_type="Patient", destinaton="general")
RedoxFhirSearchOperator(task_id="a", resource_type="Patient", validate="strict")
RedoxFhirSearchOperator(resource_type="Patient")
RedoxDataModelPostOperator(task_id="a", payload={}, retries=3, wait_for_delivery=True, destination="general")

def count(manifest: Manifest) -> int:
    return sum(file["cuont"] for file in manifest["output"])
"""


@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_a_type_checker_finds_the_mistakes_of_a_dag(checker: str, tmp_path: Path):
    """A name that is misspelt, a word that is none of the choices, what is missing, a key that no manifest has."""
    pytest.importorskip(checker)
    (tmp_path / "mistakes.py").write_text(MISTAKES)
    interpreter = "--pythonpath" if checker == "basedpyright" else "--python-executable"
    command = [sys.executable, "-m", checker, interpreter, sys.executable, str(tmp_path / "mistakes.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert re.findall(r"mistakes\.py:(\d+):.*error: ", done.stdout) == ["6", "7", "8", "12"], done.stdout


def run(operator: Any) -> Any:
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id=operator.task_id, map_index=-1)
    return operator.execute({"ti": ti})


def test_results_have_the_keys_of_their_types(redox_connection: Sandbox, tmp_path: Path):
    """Manifests, lines of searches and the result of a post have the keys that their types name."""
    found, absent = redox_connection.patients()[0]["id"], "nobody"
    manifest = run(
        RedoxFhirSearchOperator(
            task_id="search",
            resource_type="Patient",
            search_params=[{"_id": found}, {"_id": absent}, {"nonsense": "1"}],
            on_error="record",
            output_path=f"file://{tmp_path}",
        )
    )
    assert set(manifest) == keys(types.Manifest)
    assert {key for file in manifest["output"] for key in file} <= keys(types.ManifestFile)
    assert keys(types.ManifestFile) <= set(manifest["output"][0])
    assert set(merge_manifests([manifest])) == keys(types.Manifest)
    lines = list(read_searches(manifest))
    assert [line["status"] for line in lines] == ["one", "none", "error"]
    assert {key for line in lines for key in line} == keys(types.SearchLine)
    message = {"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}, "Patient": {"Identifiers": []}}
    told = run(RedoxDataModelPostOperator(task_id="post", payload=message, results_path=f"file://{tmp_path}"))
    assert set(told) == keys(types.PostResult) - {"already_sent", "delivered"}
    json.dumps([manifest, told])  # what XCom keeps
