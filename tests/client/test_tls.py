"""TLS: certificates are always verified, and what cannot be trusted gets no byte of a request."""

from __future__ import annotations

import datetime
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxTransportError
from tests.client.conftest import Driver
from tests.client.drivers import ACCEPTED, connection_to, with_token
from tests.support.wire import Line, Wire, answers, http


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    """Write the authority's certificate to a file."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def server(authority: trustme.CA) -> Iterator[Wire]:
    """Run a server with a certificate for 127.0.0.1."""
    with Wire(answers(http(ACCEPTED)), tls=server_context(authority.issue_cert("127.0.0.1"))) as wire:
        yield wire


def test_trusted_through_the_connection(driver: Driver, server: Wire, bundle: str) -> None:
    """A CA bundle named in extra.ca_file is what the server's certificate is checked with."""
    driver(connection_to(server.url, ca_file=bundle)).post()
    assert len(server.requests) == 2


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_trusted_through_the_environment(
    driver: Driver, server: Wire, bundle: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """The CA bundle that the environment names holds where the connection names none."""
    monkeypatch.setenv(variable, bundle)
    driver(connection_to(server.url)).post()
    assert len(server.requests) == 2


def refused(driver: Driver, wire: Wire, **extra: str) -> str:
    """Send a message that must not leave, and give what the error says."""
    with pytest.raises(RedoxTransportError) as caught:
        driver(with_token(connection_to(wire.url, **extra))).post()
    assert not caught.value.retryable
    assert not wire.requests
    assert wire.accepted == 1
    return str(caught.value)


def test_untrusted(driver: Driver, server: Wire) -> None:
    """An unknown authority's certificate is refused at once, nothing is sent, and the error names extra.ca_file."""
    assert "extra.ca_file" in refused(driver, server)


def test_another_authority(driver: Driver, server: Wire, tmp_path: Path) -> None:
    """A bundle that holds another authority does not help."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    assert "certificate" in refused(driver, server, ca_file=str(tmp_path / "other.pem"))


def test_another_host_name(driver: Driver, authority: trustme.CA, bundle: str) -> None:
    """A trusted certificate for another name is refused."""
    with Wire(tls=server_context(authority.issue_cert("redox.example.com"))) as wire:
        assert "certificate" in refused(driver, wire, ca_file=bundle)


def test_expired(driver: Driver, authority: trustme.CA, bundle: str) -> None:
    """An expired certificate is refused."""
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    with Wire(tls=server_context(authority.issue_cert("127.0.0.1", not_after=yesterday))) as wire:
        assert "certificate" in refused(driver, wire, ca_file=bundle)


def test_old_tls(driver: Driver, authority: trustme.CA, bundle: str) -> None:
    """A server that speaks nothing newer than TLS 1.1 gets nothing."""
    context = server_context(authority.issue_cert("127.0.0.1"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with Wire(tls=context) as wire:
        with pytest.raises(RedoxTransportError):
            driver(with_token(connection_to(wire.url, ca_file=bundle))).post()
        assert not wire.requests


def test_plain_text_behind_https(driver: Driver) -> None:
    """A server that speaks no TLS gets a handshake and nothing else."""

    def astonished(line: Line) -> None:
        line.read()
        line.send(http(b"plain text, please", status="400 Bad Request"))

    with Wire(astonished) as wire:
        with pytest.raises(RedoxTransportError, match="nothing was sent"):
            driver(with_token(connection_to(wire.url.replace("http:", "https:")))).post()
        assert not wire.requests
        assert b"t0k3n" not in wire.received


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_a_bundle_that_cannot_be_read(driver: Driver, server: Wire, tmp_path: Path, content: str | None) -> None:
    """A missing or unreadable bundle is a configuration error that names the field and not the path."""
    path = tmp_path / "secret-name.pem"
    if content:
        path.write_text(content)
    with pytest.raises(RedoxConfigError, match=r"extra\.ca_file") as caught:
        driver(connection_to(server.url, ca_file=str(path))).post()
    assert "secret-name" not in str(caught.value)
    assert not server.connections
