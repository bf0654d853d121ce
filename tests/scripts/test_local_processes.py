"""Children are watched, and never outlive the program that started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from local_processes import (
    HOST,
    PortTakenError,
    ProcessDiedError,
    Processes,
    check_port_free,
    live_processes,
    postponed_signals,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# A process that ignores polite signals, in a process group of its own, as Airflow's tasks are.
STUBBORN = "import os, signal, time; os.setpgid(0, 0); signal.signal(15, signal.SIG_IGN); time.sleep(1000)"
PARENT_OF_STUBBORN = (
    f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]); time.sleep(1000)"
)


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as started:
        yield started


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "child.log"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def session_size(session: int) -> int:
    return sum(member == session for _, member in live_processes())


def until_session_has(size: int, session: int) -> None:
    deadline = time.monotonic() + 10
    while session_size(session) != size:
        assert time.monotonic() < deadline, f"session {session} has {session_size(session)} processes"
        time.sleep(0.05)


def test_stop_ends_grandchildren(processes: Processes, log: Path) -> None:
    """A grandchild in another process group that ignores SIGTERM is ended too."""
    child = processes.start("parent", python(PARENT_OF_STUBBORN), log=log, env=os.environ)
    until_session_has(2, child.process.pid)
    processes.stop(grace=0.2)
    assert session_size(child.process.pid) == 0


def test_stop_can_be_repeated(processes: Processes, log: Path) -> None:
    """A second stop finds nothing to do."""
    processes.start("sleeper", ["sleep", "1000"], log=log, env=os.environ)
    processes.stop()
    processes.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_program_leaves_nothing(log: Path, number: signal.Signals) -> None:
    """However the program dies, its children die with it."""
    scripts = Path(__file__).parents[2] / "scripts"
    program = (
        "import os, sys, time; from pathlib import Path; from local_processes import Processes\n"
        f"command = [sys.executable, '-c', {PARENT_OF_STUBBORN!r}]\n"
        f"child = Processes().start('parent', command, log=Path({str(log)!r}), env=os.environ)\n"
        "print(child.process.pid, flush=True); time.sleep(1000)"
    )
    environment = os.environ | {"PYTHONPATH": str(scripts)}
    with subprocess.Popen(python(program), stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        session = int(parent.stdout.readline())
        until_session_has(2, session)
        parent.send_signal(number)
    until_session_has(0, session)


def test_check_reports_the_dead(processes: Processes, log: Path) -> None:
    """The error names the process, how it ended, and the end of its log."""
    code = "print('\\n'.join(map(str, range(100)))); raise SystemExit(3)"
    child = processes.start("the counter", python(code), log=log, env=os.environ)
    child.process.wait()
    with pytest.raises(ProcessDiedError) as caught:
        processes.check()
    text = str(caught.value)
    assert text.startswith("the counter exited with status 3.")
    assert "80\n" in text
    assert "79\n" not in text


def test_check_names_the_signal(processes: Processes, log: Path) -> None:
    """A process that was killed is reported with the signal's name."""
    child = processes.start("sleeper", ["sleep", "1000"], log=log, env=os.environ)
    child.process.kill()
    child.process.wait()
    with pytest.raises(ProcessDiedError, match="ended by SIGKILL"):
        processes.check()


def test_run_waits_for_success(processes: Processes, log: Path) -> None:
    """A command that ends well is nothing for `check` to complain about."""
    processes.run("hello", python("print('hello')"), log=log, env=os.environ, timeout=10)
    processes.check()
    assert log.read_text() == "hello\n"


def test_run_fails_with_the_command(processes: Processes, log: Path) -> None:
    """A status other than 0 is an error."""
    with pytest.raises(ProcessDiedError, match="status 1"):
        processes.run("failure", python("raise SystemExit(1)"), log=log, env=os.environ, timeout=10)


def test_run_has_a_deadline(processes: Processes, log: Path) -> None:
    """A command that hangs is an error."""
    with pytest.raises(TimeoutError, match="sleeper did not end"):
        processes.run("sleeper", ["sleep", "1000"], log=log, env=os.environ, timeout=0.3)


def test_first_line_stays_out_of_the_log(processes: Processes, log: Path) -> None:
    """What a child says on its standard output goes to us alone, and more of it than a pipe holds does not block it."""
    code = "import sys; print('first', flush=True); print('x' * 200_000); print('done', file=sys.stderr)"
    child = processes.start("speaker", python(code), log=log, env=os.environ, stdout=subprocess.PIPE)
    assert processes.first_line(child, timeout=10) == "first\n"
    child.process.wait(10)
    assert log.read_text() == "done\n"


def test_first_line_notices_a_death(processes: Processes, log: Path) -> None:
    """A child that ends without a word is an error at once, not after the timeout."""
    child = processes.start("mute", python("raise SystemExit(2)"), log=log, env=os.environ, stdout=subprocess.PIPE)
    with pytest.raises(ProcessDiedError, match="status 2"):
        processes.first_line(child, timeout=60)


@pytest.mark.parametrize("address", [HOST, "0.0.0.0"])
def test_taken_port_is_noticed(address: str) -> None:
    """A port is taken by a listener on the loopback interface or on all."""
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"Port {port}, meant for tests, is taken"):
            check_port_free(port, "tests")
    check_port_free(port, "tests")


def test_signals_wait_for_the_books() -> None:
    """A Ctrl-C between the start of a child and its entry in the books arrives after it."""
    books: list[str] = []

    def start() -> None:
        with postponed_signals():
            signal.raise_signal(signal.SIGINT)
            books.append("child")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            start()
    finally:
        signal.signal(signal.SIGINT, before)
    assert books == ["child"]
