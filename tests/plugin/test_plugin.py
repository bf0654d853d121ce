"""The fixture for users' own tests, as pytest itself runs it: each project here is run by a pytest of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

import pytest

SENDS = """
from airflow_provider_redox.hooks.redox import RedoxHook

MESSAGE = {"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}, "Patient": {"Identifiers": []}}
"""


def test_pytest_finds_it_by_its_entry_point():
    """An installed package is enough: nobody names the plugin."""
    (found,) = [one for one in metadata.entry_points(group="pytest11") if one.name == "redox"]
    assert found.value == "airflow_provider_redox.pytest_plugin"


def test_loading_it_loads_nothing():
    """To a pytest that is running, loading the plugin adds two modules: the package, which is empty, and itself."""
    code = """
import json, sys, pytest
from collections import abc
before = set(sys.modules)
import airflow_provider_redox.pytest_plugin
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["airflow_provider_redox", "airflow_provider_redox.pytest_plugin"]


def test_a_run_that_does_not_use_it_pays_nothing(pytester: pytest.Pytester):
    """Where no test asks for the fixture, a whole run has loaded those two modules more than one without the plugin."""
    pytester.makepyfile(
        """
        import json, sys
        from pathlib import Path

        def test_a_thing_of_ones_own(pytestconfig):
            there = pytestconfig.pluginmanager.hasplugin("redox")
            Path(f"{there}.json").write_text(json.dumps(list(sys.modules)))
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    pytester.runpytest_subprocess("-p", "no:redox").assert_outcomes(passed=1)
    with_it, without = [set(json.loads((pytester.path / f"{there}.json").read_text())) for there in (True, False)]
    assert with_it - without == {"airflow_provider_redox", "airflow_provider_redox.pytest_plugin"}


def test_without_the_extra_only_those_who_use_it_fail_and_are_told(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
):
    """A missing package breaks no run: a test that asks for the fixture is told in one sentence what to install."""
    absent = pytester.mkpydir("absent")
    (absent / "joserfc.py").write_text("raise ModuleNotFoundError(\"No module named 'joserfc'\", name='joserfc')\n")
    monkeypatch.setenv("PYTHONPATH", str(absent))
    pytester.makepyfile("def test_uses_it(redox_sandbox): pass\ndef test_does_not(): pass")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1, errors=1)
    sentence = "The sandbox needs more packages: pip install 'airflow-provider-redox[sandbox]'"
    result.stdout.fnmatch_lines([f"redox_sandbox did not start: {sentence.replace('[', '[[]')}"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_each_test_begins_anew(pytester: pytest.Pytester):
    """Faults, settings, messages, resources, the ledger and the token of a test are gone in the next one."""
    pytester.makepyfile(
        SENDS
        + """
import os
import pytest

def send():
    return RedoxHook().post_data_model(MESSAGE, destination="general")

def test_first(redox_sandbox):
    send()
    redox_sandbox.fault("status", status=503, match={"path": "/endpoint"}, times=None)
    redox_sandbox.settings(page_size=3)
    redox_sandbox.add({"resourceType": "Patient", "id": "mine"})
    with pytest.raises(Exception):
        send()

def test_second(redox_sandbox):
    assert redox_sandbox.ledger() == redox_sandbox.messages() == redox_sandbox.token_exchanges() == []
    assert "mine" not in [patient["id"] for patient in redox_sandbox.patients()]
    assert redox_sandbox.control("GET", "settings")["page_size"] == 50
    assert redox_sandbox.control("GET", "faults") == []
    send()
    assert len(redox_sandbox.token_exchanges()) == len(redox_sandbox.messages()) == 1

def test_the_connection_is_there_for_those_who_ask_only():
    assert "AIRFLOW_CONN_REDOX_DEFAULT" not in os.environ
"""
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=3)


def test_the_process_ends_with_the_session(pytester: pytest.Pytester):
    """One process serves the whole session, and is gone after it."""
    pytester.makepyfile(
        """
        from pathlib import Path
        import pytest

        @pytest.mark.parametrize("number", [1, 2])
        def test_it_runs(redox_sandbox, number):
            assert redox_sandbox.process.poll() is None
            with Path("pids").open("a") as file:
                file.write(f"{redox_sandbox.process.pid}\\n")
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2)
    (pid,) = set((pytester.path / "pids").read_text().split())
    assert subprocess.run(["ps", "-p", pid], capture_output=True).returncode == 1


def test_the_arguments_are_the_users(pytester: pytest.Pytester):
    """Who overrides `redox_sandbox_arguments` chooses the patients; a wrong argument is told as the command tells it."""
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def redox_sandbox_arguments():
            return ["--population", "3"]
        """
    )
    pytester.makepyfile("def test_few(redox_sandbox): assert len(redox_sandbox.patients()) < 10")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def redox_sandbox_arguments():
            return ["--data", "no-such-folder"]
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*--data no-such-folder is not a folder.*"])


def test_the_workers_of_xdist_have_one_each(pytester: pytest.Pytester):
    """Two workers that run the same tests at the same time use two ports, and none sees what the other does."""
    pytest.importorskip("xdist")
    pytester.makepyfile(
        SENDS
        + """
import os
import time
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(5))
def test_alone(redox_sandbox, number):
    RedoxHook().post_data_model(MESSAGE, destination="general")
    time.sleep(0.2)
    assert len(redox_sandbox.messages()) == 1
    Path(os.environ["PYTEST_XDIST_WORKER"]).write_text(redox_sandbox.url)
"""
    )
    pytester.runpytest_subprocess("--dist=each", "--tx=2*popen").assert_outcomes(passed=10)
    first, second = [(pytester.path / name).read_text() for name in ("gw0", "gw1")]
    assert first != second
