"""`python -m airflow_provider_redox`: keys, a check of a connection, a probe of Redox, and what becomes of results."""

from __future__ import annotations

import sys

from airflow_provider_redox.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
