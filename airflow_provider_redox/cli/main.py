"""The arguments of the commands, and what becomes of their errors. Each command is imported when it is called."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence

from airflow_provider_redox.checks import is_empty
from airflow_provider_redox.cli.words import UsageError, say
from airflow_provider_redox.exceptions import RedoxError, words_of

PROG = "python -m airflow_provider_redox"
DEFAULT_CONN_ID = "redox_default"
SANDBOX = "redox-fhir-sandbox"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit status."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = importlib.import_module(options.module).run
    try:
        return command(options)
    except UsageError as error:
        say(str(error))
        return 2
    except RedoxError as error:
        say(words_of(error))
        return 1
    except KeyboardInterrupt:
        say("Interrupted.")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROG, description="Keys and connections for Redox.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (_add_keygen, _add_check, _add_jwks, _add_probe, _add_purge, _add_sample):
        add(commands)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, words: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=words, description=words)
    parser.set_defaults(module=f"airflow_provider_redox.cli.{name}")
    return parser


def _add_keygen(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "keygen", "Make a key pair: a JWKS for Redox and a private key for the connection.")
    parser.add_argument("--algorithm", choices=("RS384", "ES384"), default="RS384")
    parser.add_argument("--bits", type=int, choices=(2048, 3072, 4096), help="size of an RSA key (3072)")
    parser.add_argument("--kid", type=_text, metavar="ID", help="key ID (the key's thumbprint, shortened)")
    parser.add_argument(
        "--folder", type=_text, metavar="DIR", help="write the key, the JWKS and a connection there; nothing is overwritten"
    )
    parser.add_argument(
        "--client-id", type=_text, metavar="ID", help="client ID to write into the connection, when it is known already"
    )
    parser.add_argument("--print-private-key", action="store_true", help="without --folder: print the private key too")


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "check", "Exchange one assertion for a token, as Airflow's Test button does.")
    _add_connection(parser)
    parser.add_argument("--no-clock", dest="clock", action="store_false", help="leave this machine's clock out")


def _add_jwks(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "jwks", "Print the public half of a connection's keys, as a JWKS to give to Redox.")
    source = _add_connection(parser)
    source.add_argument("--key-file", type=_text, metavar="FILE", help="a private key instead of a connection (- is stdin)")
    parser.add_argument("--kid", type=_text, metavar="ID", help="key ID of the key, when it has none")


def _add_sample(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "sample", "Take a sample of a result without persons in it, for development.")
    parser.add_argument(
        "--manifest", type=_text, required=True, action="append", metavar="URL", help="of a search; may be repeated"
    )
    parser.add_argument(
        "--folder", type=_text, required=True, metavar="DIR", help="where the sample goes: a new or empty folder"
    )
    parser.add_argument("--patients", type=int, default=20, metavar="N", help="patients of the sample at most (20)")


def _add_purge(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "purge", "Destroy what was pulled, and write a certificate of it.")
    parser.add_argument("--root", type=_text, metavar="URL", help="the output path ([redox] output_root)")
    for name, words in (("destination", "of this destination"), ("environment", "of this environment")):
        parser.add_argument(f"--{name}", type=_text, metavar="NAME", help=words)
    for name in ("dag", "run", "task"):
        parser.add_argument(f"--{name}-id", type=_text, metavar="ID", help=f"of this {name}")
    parser.add_argument(
        "--patients", type=_text, metavar="FILE", help="only what is about these: one logical ID or identifier a line"
    )
    parser.add_argument("--everything", action="store_true", help="of all destinations, DAGs and patients")
    parser.add_argument("--on-empty", choices=("fail", "succeed"), default="fail", help="where nothing of it is there")
    parser.add_argument(
        "--older-than", type=_age, default=86_400, metavar="AGE", help="such as 30d or 12h (1d); 0 takes what is at work too"
    )
    parser.add_argument("--yes", action="store_true", help="destroy; without it the command says what it would destroy")


def _text(value: str) -> str:
    """Refuse an empty option, as an unset shell variable leaves it: it would mean "not given"."""
    if is_empty(value):
        raise argparse.ArgumentTypeError("is empty; give a value, or leave the option out")
    return value


def _age(text: str) -> float:
    """Read an age such as 30d, 12h, 90m or 45s, in seconds."""
    units = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        age = float(number) * units[unit]
    except ValueError:
        age = -1
    if not 0 <= age < float("inf"):
        raise argparse.ArgumentTypeError("must be an age such as 30d, 12h or 0")
    return age


def _add_probe(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "probe", "Find out, with a few read requests, how a server behaves where Redox's pages are silent."
    )
    _add_connection(parser)
    parser.add_argument("--destination", type=_text, default=SANDBOX, metavar="NAME", help=f"name or slug ({SANDBOX})")
    parser.add_argument("--environment", choices=("Development", "Staging"), default="Development")
    parser.add_argument("--given", type=_text, default="Keva", help="given name of the test patient (Keva)")
    parser.add_argument("--family", type=_text, default="Green", help="family name (Green)")
    parser.add_argument("--birthdate", type=_text, default="1995-08-26", metavar="DATE", help="birth date (1995-08-26)")
    parser.add_argument("--pause", type=_seconds, default=1.0, metavar="SECONDS", help="time between requests (1)")
    parser.add_argument("--output", type=_text, metavar="FILE", help="write the report there instead of to stdout")
    parser.add_argument(
        "--yes", action="store_true", help="send the requests; without it the command says what it would send"
    )


def _add_connection(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--conn-id", type=_text, metavar="ID", default=DEFAULT_CONN_ID, help=f"connection in Airflow ({DEFAULT_CONN_ID})"
    )
    source.add_argument(
        "--conn-json", type=_text, metavar="FILE", help="a connection in Airflow's JSON form instead (- is stdin)"
    )
    return source


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 60:
        raise argparse.ArgumentTypeError("must be 0 to 60 seconds")
    return value
