"""What Airflow reads about the package: a mistake here breaks every Airflow process, not only ours."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import pkgutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseSensorOperator, redact
from airflow.triggers.base import BaseTrigger
from packaging.utils import canonicalize_name

from airflow_provider_redox.get_provider_info import get_provider_info
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.protocol.settings import EXTRA_FIELDS
from tests.client.drivers import connection_to
from tests.hooks.conftest import Connect


def connection_type() -> dict[str, Any]:
    described: dict[str, Any] = get_provider_info()["connection-types"][0]
    return described


def test_schema() -> None:
    """The metadata fits the schema of the installed Airflow."""
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_package_name() -> None:
    """The package name is the canonical name of the distribution; Airflow refuses any other by an exception."""
    name = get_provider_info()["package-name"]
    assert name == canonicalize_name(importlib.metadata.distribution("airflow-provider-redox").metadata["Name"])


def test_entry_point() -> None:
    """Airflow finds the metadata through the entry point."""
    (entry,) = (
        entry
        for entry in importlib.metadata.entry_points(group="apache_airflow_provider")
        if entry.value.startswith("airflow_provider_redox")
    )
    assert entry.load() is get_provider_info


def test_reading_it_imports_nothing() -> None:
    """Reading the metadata imports no module beyond the standard library."""
    code = (
        "import sys; from airflow_provider_redox.get_provider_info import get_provider_info; get_provider_info();"
        "print([name for name in ('airflow', 'requests', 'aiohttp', 'cryptography', 'msgspec') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


def test_form_fields_are_what_a_connection_takes() -> None:
    """The form offers every extra that is accepted, except allow_http, and no other."""
    assert set(connection_type()["conn-fields"]) == set(EXTRA_FIELDS) - {"allow_http"}


def test_no_field_is_hidden_by_the_masker() -> None:
    """No field's name looks sensitive to Airflow, which would show its value and its default as asterisks."""
    shown = dict.fromkeys(connection_type()["conn-fields"], "as it is")
    assert redact(shown) == shown


def test_login_is_hidden() -> None:
    """The form has no login: other hooks would send login and password, the key, as Basic auth."""
    assert "login" in connection_type()["ui-field-behaviour"]["hidden-fields"]


def named_modules(*kinds: str) -> list[str]:
    info = get_provider_info()
    return [module for kind in kinds for entry in info[kind] for module in entry["python-modules"]]


@pytest.mark.parametrize(
    ("kind", "base"), [("operators", BaseOperator), ("sensors", BaseSensorOperator), ("triggers", BaseTrigger)]
)
def test_every_class_of_a_kind_is_named(kind: str, base: type) -> None:
    """Every operator, sensor and trigger, but for those to be derived from, is in a module that the metadata names."""
    package = importlib.import_module(f"airflow_provider_redox.{kind}")
    modules = [
        importlib.import_module(found.name) for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    offered = {
        thing
        for module in modules
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, base) and thing.__module__ == module.__name__ and is_offered(thing)
    }
    there = {
        thing for name in named_modules(kind) for thing in vars(importlib.import_module(name)).values() if callable(thing)
    }
    assert offered
    assert offered <= there


def is_offered(thing: type) -> bool:
    derived = [one for one in thing.__subclasses__() if one.__module__.startswith("airflow_provider_redox.")]
    return not thing.__name__.startswith("_") and not inspect.isabstract(thing) and not derived


def test_named_modules_exist() -> None:
    """Every module and class that the metadata names can be imported."""
    info = get_provider_info()
    for module in named_modules("hooks", "operators", "sensors", "triggers"):
        importlib.import_module(module)
    for link in info["extra-links"]:
        module, _, name = link.rpartition(".")
        assert hasattr(importlib.import_module(module), name)
    module, _, name = connection_type()["hook-class-name"].rpartition(".")
    assert getattr(importlib.import_module(module), name) is RedoxHook


def test_airflow_finds_the_hook(connect: Connect) -> None:
    """Airflow makes the hook from the ID of a connection of the type redox."""
    connect(connection_to("http://127.0.0.1"), "somewhere")
    hook = BaseHook.get_hook("somewhere")
    assert type(hook) is RedoxHook
    assert hook.redox_conn_id == "somewhere"


def test_labels_of_older_airflow() -> None:
    """Airflow 2.11 to 3.1 asks the hook for the labels and gets the same ones, under its own names."""
    described = connection_type()["ui-field-behaviour"]
    told = RedoxHook.get_ui_field_behaviour()
    assert told == {name.replace("-", "_"): value for name, value in described.items()}


def test_widgets_of_older_airflow() -> None:
    """Airflow 2.11 to 3.1 asks the hook for the fields and gets the same ones, of the types that it knows."""
    wtforms = pytest.importorskip("wtforms")
    pytest.importorskip("flask_appbuilder")
    widgets = RedoxHook.get_connection_form_widgets()
    assert list(widgets) == list(connection_type()["conn-fields"])
    assert {widget.field_class for widget in widgets.values()} <= {wtforms.IntegerField, wtforms.StringField}


def test_the_form_is_the_hooks_own() -> None:
    """The form's methods stand in the class itself; Airflow 2.11 does not look at base classes."""
    assert {"get_connection_form_widgets", "get_ui_field_behaviour"} <= set(RedoxHook.__dict__)


SHOWN = {
    "list": ["airflow-provider-redox"],
    "get airflow-provider-redox": ["airflow-provider-redox"],
    "hooks": ["airflow_provider_redox.hooks.redox.RedoxHook"],
    "behaviours": ["redox"],
    "widgets": [f"extra__redox__{name}" for name in connection_type()["conn-fields"]],
    "triggers": named_modules("triggers"),
    "links": get_provider_info()["extra-links"],
    "configs": list(get_provider_info()["config"]["redox"]["options"]),
}
"""What each command must show of ours."""


def test_airflows_own_commands_show_all_of_it() -> None:
    """`airflow providers` lists the hook, the form's fields, the triggers, the buttons and the options."""
    code = """
import contextlib, sys
from airflow.__main__ import main
for command in sys.argv[1:]:
    print("=====", command, flush=True)
    sys.argv = ["airflow", "providers", *command.split(), "--output", "yaml"]
    with contextlib.suppress(SystemExit):
        main()
"""
    done = subprocess.run([sys.executable, "-c", code, *SHOWN], capture_output=True, text=True, timeout=300, check=True)
    told = dict(part.split("\n", 1) for part in done.stdout.split("===== ")[1:])
    # Without Flask-AppBuilder, Airflow 3.1's command lists the forms of no provider; its pages make do without it.
    nobodys = set() if find_spec("flask_appbuilder") else {name for name, text in told.items() if text.split()[-1] == "[]"}
    shown = {command: words for command, words in SHOWN.items() if command not in nobodys & {"behaviours", "widgets"}}
    missing = {command: [word for word in words if word not in told[command]] for command, words in shown.items()}
    assert {command: words for command, words in missing.items() if words} == {}, done.stderr[-2000:]
