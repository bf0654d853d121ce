"""Child processes that never outlive the program that started them.

What is promised:

- Each child leads a session of its own: Ctrl-C in the terminal reaches only this program, and a child's own children
  (Airflow's components fork several) are found again by that session when it is time to end them.
- `Processes.stop` ends whole sessions: a polite signal to each leader, then SIGKILL to whatever is left.
- If this program dies without calling it, by SIGKILL even, a small guard process does it: the guard reads from a pipe
  that only this program holds, and the end of the file is the signal.
- A child that exits while it should run is noticed by the next `Processes.check`, with the end of its log.

POSIX only, standard library only.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

HOST = "127.0.0.1"
POLL = 0.1


class ProcessDiedError(RuntimeError):
    """A process ended that should have gone on, or failed where it should have succeeded."""

    def __init__(self, name: str, status: int, log: Path) -> None:
        super().__init__(name, status, log)
        self.name, self.status, self.log = name, status, log

    def __str__(self) -> str:
        """Which process, how it ended, and the last 20 lines of its log."""
        how = f"was ended by {signal_name(-self.status)}" if self.status < 0 else f"exited with status {self.status}"
        lines = "\n".join(f"    {line}" for line in tail(self.log, 20))
        return f"{self.name} {how}. The end of {relative(self.log)}:\n{lines or '    (empty)'}"


class PortTakenError(RuntimeError):
    """Somebody else listens on a port that a child needs."""

    def __init__(self, port: int, purpose: str) -> None:
        super().__init__(port, purpose)
        self.port, self.purpose = port, purpose

    def __str__(self) -> str:
        """One plain sentence."""
        return f"Port {self.port}, meant for {self.purpose}, is taken by another program."


class Child(NamedTuple):
    """A started process, the name shown to people, and the file that holds its output."""

    name: str
    process: subprocess.Popen[str]
    log: Path


class Processes:
    """The children of this program: started, watched and ended together. A context manager that ends with `stop`."""

    def __init__(self) -> None:
        self.children: list[Child] = []  # those that should be running
        self._guard: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(
        self, name: str, command: Sequence[str], *, log: Path, env: Mapping[str, str], stdout: int | None = None
    ) -> Child:
        """Start a command whose output goes to `log`, or its standard output elsewhere (`subprocess.PIPE`)."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with postponed_signals(), log.open("ab") as output:
            self._guard = self._guard or start_guard()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output if stdout is None else stdout,
                stderr=output,
                env=env,
                text=True,
                start_new_session=True,
            )
            child = Child(name, process, log)
            self.children.append(child)
            self._tell_guard(f"+{process.pid}")
        return child

    def run(self, name: str, command: Sequence[str], *, log: Path, env: Mapping[str, str], timeout: float) -> None:
        """Run a command to its end. A status other than 0 is a `ProcessDiedError`; too long, a `TimeoutError`."""
        child = self.start(name, command, log=log, env=env)
        deadline = time.monotonic() + timeout
        while child.process.poll() is None:
            self.check(ignoring=child)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} did not end within {timeout:.0f} s; its log is {relative(log)}.")
            time.sleep(POLL)
        self._end([child], grace=0)
        if child.process.returncode:
            raise ProcessDiedError(name, child.process.returncode, log)

    def check(self, *, ignoring: Child | None = None) -> None:
        """Raise `ProcessDiedError` if a child has ended."""
        for child in self.children:
            if child is not ignoring and child.process.poll() is not None:
                raise ProcessDiedError(child.name, child.process.returncode, child.log)

    def first_line(self, child: Child, *, timeout: float) -> str:
        """Wait for the first line of a child's standard output (started with `subprocess.PIPE`); drop the rest."""
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=forward_first_line, args=(child.process.stdout, lines), daemon=True).start()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(queue.Empty):
                return lines.get(timeout=POLL)
        raise TimeoutError(f"{child.name} printed nothing within {timeout:.0f} s; its log is {relative(child.log)}.")

    def stop(self, *, grace: float = 2.0) -> None:
        """End every child and all that it started; safe to call twice. After `grace` seconds it is SIGKILL."""
        self._end(list(self.children), grace=grace)
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None

    def _end(self, children: list[Child], *, grace: float) -> None:
        for child in children:
            child.process.terminate()  # does nothing to one that has ended
        deadline = time.monotonic() + grace
        try:
            while time.monotonic() < deadline and any(child.process.poll() is None for child in children):
                time.sleep(POLL)
        finally:  # a second Ctrl-C cuts the grace short
            kill_sessions({child.process.pid for child in children})
        for child in children:
            child.process.wait()
            if child.process.stdout is not None:
                child.process.stdout.close()
            self.children.remove(child)
            self._tell_guard(f"-{child.process.pid}")

    def _tell_guard(self, order: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # without its guard the rest must go on
                self._guard.stdin.write(order + "\n")
                self._guard.stdin.flush()


def forward_first_line(stream: Iterable[str], lines: queue.SimpleQueue[str]) -> None:
    """Read a stream to its end, so that its writer never blocks; only the first line is handed on."""
    for number, line in enumerate(stream):
        if number == 0:
            lines.put(line)


def start_guard() -> subprocess.Popen[str]:
    """Start the process that ends our children if we cannot."""
    command = [sys.executable, "-I", "-S", __file__]
    return subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)


def guard(orders: Iterable[str]) -> None:
    """Remember the sessions named by `orders` (`+123` begins, `-123` is over) and kill what is left at their end."""
    sessions: set[int] = set()
    for order in orders:
        change = sessions.add if order.startswith("+") else sessions.discard
        change(int(order[1:]))
    kill_sessions(sessions)


def kill_sessions(sessions: set[int], *, timeout: float = 10.0) -> None:
    """SIGKILL every process of these sessions until none is left: one may fork while we look."""
    deadline = time.monotonic() + timeout
    while sessions and (members := [pid for pid, session in live_processes() if session in sessions]):
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise TimeoutError(f"These processes survive SIGKILL: {members}")
        time.sleep(POLL / 2)


def live_processes() -> Iterator[tuple[int, int]]:
    """Every process that is not a zombie, and its session. From /proc, or from `ps` where there is none (macOS)."""
    if Path("/proc/self/stat").exists():
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # pid (name) state ppid pgrp session ...; the name may hold spaces and parentheses.
                state, _, _, session = entry.read_text(errors="replace").rpartition(")")[2].split()[:4]
                if state not in "ZX":
                    yield int(entry.parent.name), int(session)
        return
    listing = subprocess.run(["ps", "-axo", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    for pid, state in (line.split()[:2] for line in listing.splitlines()):
        with contextlib.suppress(OSError):
            if not state.startswith("Z"):
                yield int(pid), os.getsid(int(pid))


def check_port_free(port: int, purpose: str) -> None:
    """Raise `PortTakenError` if a server could not listen on this port of the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex((HOST, port)) == 0:  # some systems let two programs bind the same port
            raise PortTakenError(port, purpose)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what servers do: a port in TIME_WAIT is free
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise PortTakenError(port, purpose) from error


@contextlib.contextmanager
def postponed_signals() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back for a moment, so that no child is started and yet not in the books.

    By handlers, not by a signal mask: a child would inherit the mask.
    """
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs signal handlers in the main thread only
        return
    wanted = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.signal(name, lambda number, _: arrived.append(number)) for name in wanted}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
    for number in arrived:
        signal.raise_signal(number)


def signal_name(number: int) -> str:
    """Give SIGKILL for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def tail(path: Path, lines: int) -> list[str]:
    """Give the last lines of a text file, none if it cannot be read."""
    try:
        return path.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def relative(path: Path) -> Path:
    """Give the path as seen from the working directory, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    guard(sys.stdin)
