"""The processes of a run: the server, and each client in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import Result

ROOT = Path(__file__).parents[1]


def new_key() -> str:
    """Make a private key, RSA with 2,048 bits, in PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


@contextmanager
def server() -> Iterator[str]:
    """Run the server; gives its address."""
    command = [sys.executable, "-m", "benchmarks.server"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def run(module: str, jobs: Iterable[dict[str, Any]], *, limit: float, log: Path | None = None) -> list[Result | None]:
    """Run a client's jobs in one fresh process; a job that is not done within the limit, and what follows it, is None.

    :param module: the module with `drain`.
    :param limit: seconds for all of them, imports included.
    :param log: where the client's own words go.
    """
    asked = [json.dumps(job) for job in jobs]
    with tempfile.TemporaryDirectory(prefix="redox-bench-home-") as home, (log or Path(os.devnull)).open("a") as words:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.measure", module],
            cwd=ROOT,
            env=environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            text=True,
        )
        told = _answers(process, "\n".join(asked), limit)
    results: list[Result | None] = [Result(**json.loads(line)) for line in told]
    return [*results, *[None] * (len(asked) - len(results))]


def _answers(process: subprocess.Popen[str], asked: str, limit: float) -> list[str]:
    try:
        told, _ = process.communicate(asked, timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        told, _ = process.communicate()
    else:
        if process.returncode:
            raise RuntimeError(f"{process.args!r} ended with status {process.returncode}")
    return told.splitlines()


def environment(home: str) -> dict[str, str]:
    """Give the environment of a client: an Airflow of its own, nothing kept, nothing reported."""
    return {
        **os.environ,
        "HOME": home,
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": "cmVkb3gtcmVkb3gtcmVkb3gtcmVkb3gtcmVkb3gtMTI=",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "RUNTIME__DLTHUB_TELEMETRY": "False",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
