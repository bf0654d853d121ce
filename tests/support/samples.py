"""Data of others that tests read where it is at hand, and nobody copies: samples, and Airflow's own constraints.

They lie in the folder that `TEST_DATA` names, by default beside the checkout. Tests that need them are skipped without.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEST_DATA = Path(os.environ.get("TEST_DATA") or ROOT.parent / "shared" / "data")
