"""`purge`: destroy what was pulled. Without `--yes` it says what it would destroy."""

from __future__ import annotations

import argparse
import getpass
import socket
import time

from airflow_provider_redox.cli.words import UsageError, put, say
from airflow_provider_redox.storage.holdings import Selection
from airflow_provider_redox.storage.layout import checked_root, output_root
from airflow_provider_redox.storage.purging import Purge, patients_in, summary

_OPTIONS = {
    "output_path": "--root",
    "destination": "--destination",
    "environment": "--environment",
    "dag_id": "--dag-id",
    "run_id": "--run-id",
    "task_id": "--task-id",
    "patients_path": "--patients",
    "on_empty": "--on-empty",
}


def run(options: argparse.Namespace) -> int:
    """Destroy, or say what would be."""
    before = time.time() - options.older_than
    selection = Selection(options.destination, options.environment, options.dag_id, options.run_id, options.task_id, before)
    patients = None if options.patients is None else patients_in(_place(options.patients), where="--patients")
    if not selection.told and patients is None and not options.everything:
        raise UsageError("Say what: --destination, --environment, --dag-id, --run-id, --task-id, --patients or --everything")
    if patients is not None and options.destination is None:
        raise UsageError("--patients: needs --destination; logical IDs and identifiers are a hospital's own")
    root = output_root(None) if options.root is None else checked_root(options.root, name="--root")
    by = {"user": getpass.getuser(), "host": socket.gethostname()}
    purge = Purge(root, selection, patients, by, on_empty=options.on_empty, spelled=_OPTIONS)
    certificate = purge.run() if options.yes else purge.planned()
    for one in certificate["files"]:
        put(f"{one['what']}\t{one['url']}")
    say(summary(certificate) if options.yes else f"{summary(certificate)} Nothing was changed; --yes does it.")
    return 0


def _place(path: str) -> str:
    from pathlib import Path

    return path if "://" in path else str(Path(path).absolute())
