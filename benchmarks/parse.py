"""What importing our operators, sensors and triggers adds to a DAG file, beyond what Airflow's own import costs.

    python -m benchmarks.parse [--rounds 15]

Airflow is imported once; each round forks and imports the modules in the child, which begins with what a DAG processor has
loaded, and as an installed package has them: compiled. Told is the median of the CPU time, of all of them together and of
each alone.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import os
import statistics
import struct
import time
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, AirflowFailException, BaseOperator, BaseSensorOperator, XComArg, task

import airflow_provider_redox
from airflow_provider_redox.get_provider_info import get_provider_info

AIRFLOWS = (DAG, AirflowFailException, BaseOperator, BaseSensorOperator, XComArg, task)
"""What any DAG file has loaded."""


def modules() -> list[str]:
    """Name every module that a DAG file may import."""
    info = get_provider_info()
    return [name for kind in ("operators", "sensors", "triggers") for one in info[kind] for name in one["python-modules"]]


def cpu_of(names: list[str]) -> float:
    """Import modules in a child process; give the CPU time in milliseconds."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        began = time.process_time()
        for name in names:
            importlib.import_module(name)
        os.write(writing, struct.pack("d", 1000 * (time.process_time() - began)))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        (took,) = struct.unpack("d", pipe.read(8))
    os.wait()
    return float(took)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    importlib.import_module("airflow.triggers.base")
    compileall.compile_dir(Path(airflow_provider_redox.__file__).parent, quiet=1)
    wanted = {"all of them": modules(), **{name.rpartition("redox.")[2]: [name] for name in modules()}}
    measured = {title: [cpu_of(names) for _ in range(rounds)] for title, names in wanted.items()}
    for title, took in measured.items():
        print(f"{title:28} {statistics.median(took):6.1f} ms of CPU ({min(took):.1f} to {max(took):.1f})")


if __name__ == "__main__":
    main()
