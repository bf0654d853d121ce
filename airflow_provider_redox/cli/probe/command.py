"""The command: who is asked, leave to ask, the questions in turn, the report and its table."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import airflow_provider_redox
from airflow_provider_redox.cli.connections import settings_of
from airflow_provider_redox.cli.main import SANDBOX
from airflow_provider_redox.cli.probe import questions, searches, tokens
from airflow_provider_redox.cli.probe.asking import MOST, Asker, StoppedAskingError
from airflow_provider_redox.cli.probe.findings import Finding, Gate, Question
from airflow_provider_redox.cli.watched import WatchedClient
from airflow_provider_redox.cli.words import UsageError, as_json, put, say
from airflow_provider_redox.protocol import fhir
from airflow_provider_redox.protocol.destinations import find_destination
from airflow_provider_redox.protocol.settings import Settings, is_loopback

FORMAT = 1
"""Version of the report's shape."""

_LEAVE = """\
This would send at most {most} requests to {address} with the key of client {client}: six token requests, some of them
wrong on purpose, then reads and searches at the destination {slug}, environment {environment}, for one test patient and
that patient's observations and encounters. Nothing is written, and the report holds no secret and no patient. Only
ask a destination whose patients are invented. To send them, add --yes."""


def run(options: argparse.Namespace) -> int:
    """Probe, and give 0 when every assumption holds that could be looked at, 1 when one does not or nobody signed in."""
    settings = settings_of(options)
    slug = find_destination(settings.destinations, options.destination).fhir_slug()
    endpoint = fhir.endpoint(settings, slug, options.environment)
    person = {name: getattr(options, name) for name in ("given", "family", "birthdate")}
    fhir.search_form(person)  # refuses an empty name before anything is sent
    if not options.yes:
        about = {"address": settings.base_url, "client": settings.client_id, "slug": slug}
        raise UsageError(_LEAVE.format(most=MOST, environment=options.environment, **about))
    _refuse_existing(options.output)
    asker = Asker(WatchedClient(settings), gate_for(settings, slug, person), options.pause)
    findings = probe(asker, endpoint, person)
    report = report_of(asker, findings, settings, endpoint)
    _give(as_json(report), options.output)
    say(table(report))
    return 1 if not findings[0].holds or any(finding.holds is False for finding in findings) else 0


def gate_for(settings: Settings, slug: str, person: dict[str, str]) -> Gate:
    """Make the gate that lets nothing pass by which the connection or the patient is known."""
    gate = Gate()
    gate.keep(
        settings.client_id,
        *(key.kid for key in settings.keys),
        settings.source_id,
        settings.organization_id,
        settings.environment_id,
    )
    gate.keep(settings.scope, *settings.headers.values(), *person.values(), searches.UNKNOWN_ID)
    gate.keep(urlsplit(settings.base_url).hostname, slug if slug != SANDBOX else None)
    return gate


def probe(asker: Asker, endpoint: fhir.Endpoint, person: dict[str, str]) -> list[Finding]:
    """Ask everything that can be asked; every question gets its finding, asked or not."""
    found: dict[Question, Finding] = {}
    of_tokens = tokens.Tokens(asker)
    why = _collect(of_tokens.questions(), found)
    before = len(asker.answers)
    if of_tokens.token:
        asked = searches.Searches(asker, endpoint, of_tokens.token, person, _headers(asker.client.settings))
        why = why or _collect(asked.questions(), found)
        _collect(searches.of_the_wire(asker, asker.answers[before:]), found)
        why = why or _collect(of_tokens.oddities(), found)
    asker.client.close()
    return [found.get(one) or one.not_asked(why or "an earlier answer left nothing to ask for") for one in questions.ALL]


def _collect(findings: Iterator[Finding], found: dict[Question, Finding]) -> str:
    """Take the findings until no further request may be sent, and say why that is; nothing at their end."""
    try:
        for finding in findings:
            found[finding.question] = finding
    except StoppedAskingError as end:
        return str(end)
    return ""


def _headers(settings: Settings) -> dict[str, str]:
    own = {"redox-source-id": settings.source_id} if settings.source_id else {}
    return {**own, **settings.headers}


def report_of(asker: Asker, findings: list[Finding], settings: Settings, endpoint: fhir.Endpoint) -> dict[str, Any]:
    """Make the report. Every finding goes through the gate."""
    held = [finding.holds for finding in findings]
    return {
        "report": "airflow-provider-redox probe",
        "format": FORMAT,
        "version": airflow_provider_redox.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "server": server_of(settings.base_url),
        "destination": SANDBOX if endpoint.slug == SANDBOX else "another",
        "environment": endpoint.environment,
        "algorithm": settings.algorithm,
        "requests": asker.requests,
        "assumptions": {"hold": held.count(True), "do_not_hold": held.count(False), "undecided": held.count(None)},
        "findings": [finding.as_json(asker.gate) for finding in findings],
    }


def server_of(base_url: str) -> str:
    """Say whose server was asked, without its name."""
    host = urlsplit(base_url).hostname or ""
    if is_loopback(host):
        return "this machine"
    return "Redox" if host == "redoxengine.com" or host.endswith(".redoxengine.com") else "another"


def table(report: dict[str, Any]) -> str:
    """Give the report in short, a line for each question."""
    words = {True: "yes", False: "NO", None: "-"}
    lines = [f"{'question':<26}{'holds':<7}observed"]
    for finding in report["findings"]:
        observed = ", ".join(f"{name}={_short(value)}" for name, value in finding["observed"].items())
        lines.append(f"{finding['question']:<26}{words[finding['holds']]:<7}{textwrap.shorten(observed, 85)}")
    counts = report["assumptions"]
    lines.append(
        f"{report['requests']} requests; {counts['hold']} assumptions hold, {counts['do_not_hold']} do not, "
        f"{counts['undecided']} are undecided or matter to nobody."
    )
    return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"({len(value)})"
    return {True: "yes", False: "no", None: "none"}[value] if value is None or isinstance(value, bool) else str(value)


def _refuse_existing(output: str | None) -> None:
    if output and Path(output).exists():
        raise UsageError("--output: is there already and is not overwritten; name another file")


def _give(text: str, output: str | None) -> None:
    if output is None:
        put(text)
        return
    try:
        Path(output).write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        put(text)  # the requests are spent: do not lose what they brought
        raise UsageError(f"--output: cannot be written ({error.strerror}); the report is on stdout") from None
