"""What a worker without a store's driver, and a store that fails, are told as."""

from __future__ import annotations

import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.stores import EXTRAS, StoredFile, naming
from airflow_provider_redox.storage.urls import KINDS

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
DRIVERS = {"s3": "s3fs", "gcs": "gcsfs", "azure": "adlfs"}
SCHEMES = [(scheme, extra) for extra in EXTRAS for scheme in KINDS[extra]]


@pytest.mark.parametrize(("scheme", "extra"), SCHEMES)
def test_a_missing_driver_is_named_with_the_extra_that_brings_it(scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch):
    """A store whose driver is not installed is a RedoxConfigError that says what to install."""
    if find_spec(DRIVERS[extra]):
        monkeypatch.setitem(sys.modules, DRIVERS[extra], None)  # as Python takes a module that is not there
    with pytest.raises(RedoxConfigError) as caught:
        Files(f"{scheme}://nobody_{scheme}@bucket/redox")
    assert f"{scheme}://" in str(caught.value)
    assert f"pip install 'airflow-provider-redox[{extra}]'" in str(caught.value)


def test_every_extra_that_an_error_names_exists():
    """The extras of the stores are those that the package declares."""
    assert {*EXTRAS} < {*PROJECT["optional-dependencies"]}


class DriverError(Exception):
    """An error of a driver's own kind."""


@pytest.mark.parametrize("error", [DriverError("Keva Green"), OSError(5, "Keva Green"), TimeoutError("Keva Green")])
def test_a_failure_of_a_store_is_an_oserror_without_the_stores_text(error: Exception):
    """Whatever a driver raises names the place and the kind of failure, and can be tried again."""
    told = f"s3://bucket/x: the store could not be used .{type(error).__name__}."
    with pytest.raises(OSError, match=told) as caught, naming("s3://bucket/x"):
        raise error
    assert "Keva" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [TypeError, KeyError, FileNotFoundError, FileExistsError, RedoxConfigError, KeyboardInterrupt]
)
def test_a_mistake_in_code_shows_itself(error: type[BaseException]):
    """What is not a store's failure passes as it is."""
    with pytest.raises(error), naming("s3://bucket/x"):
        raise error


def test_a_file_that_could_not_be_ended_is_given_up_once():
    """A failed end takes the pieces back; giving it up again, or ending it, does nothing more."""
    told = []

    class Driver:
        closed = False

        def close(self) -> None:
            told.append("close")
            raise DriverError

        def discard(self) -> None:
            told.append("discard")

    file = StoredFile(Driver, lambda: naming("s3://bucket/x"))
    with pytest.raises(OSError, match="DriverError"):
        file.close()
    file.abandon()
    file.close()
    assert told == ["close", "discard"]
