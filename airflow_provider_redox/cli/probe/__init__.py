"""`probe`: how a server behaves where Redox's pages are silent, and which of this package's assumptions hold there.

It reads only, one named destination only, and never Production. One request at a time, none of them repeated, 25 at the
most, and none after a 429. The report says codes, names, numbers and booleans: no secret, no patient, no client ID.
"""

from airflow_provider_redox.cli.probe.command import run

__all__ = ["run"]
