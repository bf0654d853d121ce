"""Start the receiver, or say in a sentence what is wrong or missing."""

from __future__ import annotations

import argparse
import sys

from airflow_provider_redox.exceptions import RedoxConfigError


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 2 with one sentence on stderr if it cannot start."""
    from airflow_provider_redox.receiver.settings import ReceiverSettings

    options = _parser().parse_args(arguments)
    try:
        ReceiverSettings.from_environment()
        from airflow_provider_redox.receiver.server import serve
    except RedoxConfigError as error:
        sys.stderr.write(f"redox receiver: {error}\n")
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("uvicorn", "httptools"):
            raise
        sys.stderr.write("The receiver needs more packages: pip install 'airflow-provider-redox[receiver]'\n")
        return 2
    serve(options.host, options.port, workers=options.workers)
    return 0


def _parser() -> argparse.ArgumentParser:
    from airflow_provider_redox.receiver.settings import PREFIX, VARIABLES

    variables = "\n".join(f"  {PREFIX}{name}\n      {what}" for name, what in VARIABLES.items())
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_redox.receiver",
        description="Take what Redox pushes into an inbox on object storage. TLS is the business of a proxy in front.",
        epilog=f"environment:\n{variables}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on, by default this machine only")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share the port")
    return parser


if __name__ == "__main__":
    sys.exit(main())
