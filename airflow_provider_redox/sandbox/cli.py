"""The command: read the arguments, load the patients, listen, serve until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import signal
import socket
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

from . import loading, population
from .connection import BadClientError, connection_line, register_from_environment
from .server import application
from .settings import Settings
from .state import Sandbox

if TYPE_CHECKING:
    from .store import Resource


class CannotStartError(Exception):
    """The sandbox cannot start; the message is a sentence for the user."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 2 with one sentence on stderr if it cannot start."""
    options = _parser().parse_args(arguments)
    try:
        with _listen(options.host, options.port, anywhere=bool(options.url)) as listener:
            sandbox = Sandbox.start(options.url or _base_url(listener), _settings(options), _resources(options))
            register_from_environment(sandbox)
            asyncio.run(_serve(sandbox, listener, announce=options.print_connection))
    except (CannotStartError, BadClientError, loading.BadDataError) as error:
        _say(f"redox sandbox: {error}")
        return 2
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_redox.sandbox", description="A local Redox.")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument(
        "--url", type=_base, help="where others reach it: allows a --host beyond loopback, as in a container"
    )
    parser.add_argument("--port", type=_port, default=8089, help="0 picks a free one")
    parser.add_argument("--data", type=Path, metavar="DIR", help="FHIR files to serve instead of invented patients")
    parser.add_argument("--print-connection", action="store_true", help="print an Airflow connection as one line of JSON")
    parser.add_argument("--token-lifetime", type=_seconds, default=300, metavar="SECONDS")
    parser.add_argument("--population", type=_whole, default=200, metavar="N", help="how many patients to invent")
    parser.add_argument("--seed", type=int, default=1, help="the same seed invents the same patients")
    parser.add_argument("--page-size", type=_whole, default=50, metavar="N")
    parser.add_argument("--quota", type=_whole, default=10_000, metavar="N", help="requests in a window")
    parser.add_argument("--quota-window", type=_seconds, default=300, metavar="SECONDS")
    parser.add_argument("--source-id", type=_uuid, metavar="UUID", help="requests have to name this source")
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65_535:  # the largest TCP port
        raise argparse.ArgumentTypeError("must be 0 to 65535")
    return int(text)


def _base(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
        raise argparse.ArgumentTypeError("must be http:// or https://, a host, and perhaps a port")
    return text


def _whole(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be seconds above 0")
    return value


def _uuid(text: str) -> str:
    return str(uuid.UUID(text))


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        token_lifetime=options.token_lifetime,
        page_size=options.page_size,
        quota=options.quota,
        quota_window=options.quota_window,
        source_id=options.source_id,
    )


def _resources(options: argparse.Namespace) -> list[Resource]:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if options.data:
        resources = loading.load(options.data, today=today.timestamp())
    else:
        resources = population.generate(options.population, seed=options.seed, today=today.timestamp())
    _say(f"{len(resources)} resources loaded")
    return resources


def _listen(host: str, port: int, *, anywhere: bool) -> socket.socket:
    address = _address(host)
    if not (anywhere or address.is_loopback):
        raise CannotStartError(f"--host {host} is not a loopback address; the sandbox serves this machine only.")
    listener = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET)  # IPv6
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(address), port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise CannotStartError(f"cannot listen on port {port} of {host}: {error.strerror}.") from None
    return listener


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise CannotStartError(f"--host {host} is not an address.") from None


def _base_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _serve(sandbox: Sandbox, listener: socket.socket, *, announce: bool) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    runner = web.AppRunner(application(sandbox), access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    _say(f"listening on {sandbox.base_url}")
    if announce:
        sys.stdout.write(f"{connection_line(sandbox)}\n")
        sys.stdout.flush()
    await stopped.wait()
    await runner.cleanup()
