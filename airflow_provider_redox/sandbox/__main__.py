"""Start the sandbox, or say in a sentence what is not installed."""

from __future__ import annotations

import sys

NEEDED = {"joserfc", "faker"}


def main() -> int:
    """Run the command; what it needs is imported here, so that its absence can be told."""
    try:
        from .cli import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        sys.stderr.write("The sandbox needs more packages: pip install 'airflow-provider-redox[sandbox]'\n")
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
