"""The sandbox of the tests is the one that users test with."""

from airflow_provider_redox.testing import RedoxSandbox as Sandbox

__all__ = ["Sandbox"]
