"""What is taken from the environment: proxies and NO_PROXY are; netrc is not."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from airflow_provider_redox.exceptions import RedoxTransportError
from tests.client.conftest import Driver
from tests.client.drivers import ACCEPTED, PATIENT, connection_to, with_token
from tests.support.wire import TOKEN, Wire, answers, http, proxies


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server() -> Iterator[Wire]:
    with Wire(answers(http(ACCEPTED))) as wire:
        yield wire


@pytest.fixture
def tls_server(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """Run a server that speaks TLS and is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with Wire(answers(http(ACCEPTED)), tls=context) as wire:
        yield wire


@pytest.mark.parametrize("name", ["127.0.0.1", "default"])
def test_netrc(driver: Driver, server: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An entry of ~/.netrc for the host changes nothing in a request."""
    who = "default" if name == "default" else f"machine {name}"
    (tmp_path / ".netrc").write_text(f"{who} login intruder password hunter2\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    driver(connection_to(server.url)).post()
    assert b"intruder" not in server.received
    assert b"basic" not in server.received.lower()
    assert b"\r\nauthorization: bearer " + TOKEN.encode() in server.requests[1].lower()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_http_proxy(driver: Driver, server: Wire, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A proxy for http is sent the request in the absolute form, and the server gets it once."""
    if variable == "HTTP_PROXY":
        monkeypatch.delenv("REQUEST_METHOD", raising=False)
    with Wire(proxies()) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        driver(with_token(connection_to(server.url))).post()
        assert proxy.requests[0].startswith(f"POST {server.url}/endpoint HTTP/1.1\r\n".encode())
    assert len(server.requests) == 1


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_https_proxy(driver: Driver, tls_server: Wire, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """A proxy for https sees a CONNECT with the host and nothing else: no token, no path, no patient."""
    with Wire(proxies()) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}127.0.0.1:{proxy.port}")
        driver(with_token(connection_to(tls_server.url))).post()
        assert proxy.received.startswith(f"CONNECT 127.0.0.1:{tls_server.port} HTTP/1.".encode())
        for hidden in (TOKEN, "uthorization", "endpoint", PATIENT, "redox"):
            assert hidden.encode() not in proxy.received
    assert TOKEN.encode() in tls_server.received


@pytest.mark.parametrize("kind", ["http", "https"])
def test_proxy_with_a_login(
    driver: Driver, server: Wire, tls_server: Wire, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A user name and password in the proxy's URL are for the proxy; the server does not see them."""
    target = {"http": server, "https": tls_server}[kind]
    with Wire(proxies(login="user:p@ss")) as proxy:
        monkeypatch.setenv(f"{kind}_proxy", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        driver(with_token(connection_to(target.url))).post()
    assert len(target.requests) == 1
    if kind == "https":
        assert b"roxy-" not in target.received
        assert base64.b64encode(b"user:p@ss") not in target.received


@pytest.mark.parametrize("value", ["127.0.0.1", "*", "example.com, 127.0.0.1:{port}"])
def test_no_proxy(driver: Driver, server: Wire, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A host in NO_PROXY is reached directly."""
    with Wire(proxies()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", value.format(port=server.port))
        driver(with_token(connection_to(server.url))).post()
        assert not proxy.connections
    assert len(server.requests) == 1


def test_a_proxy_that_refuses(driver: Driver, tls_server: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CONNECT that is refused means that nothing was sent, for a message too: tried again, then a transport error."""
    with Wire(proxies(refuses=True)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(RedoxTransportError, match="nothing was sent: the proxy could not be reached or refused"):
            driver(with_token(connection_to(tls_server.url))).post()
        assert len(proxy.requests) == 3
    assert not tls_server.connections


def test_a_proxy_that_is_away(driver: Driver, tls_server: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that cannot be reached is a transport error, and the server is not asked directly."""
    with Wire() as gone:
        pass
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{gone.port}")
    with pytest.raises(RedoxTransportError, match="nothing was sent"):
        driver(with_token(connection_to(tls_server.url))).post()
    assert not tls_server.connections


def test_a_proxy_that_comes_back(driver: Driver, tls_server: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that the proxy refused at first is sent at the next try, once."""
    with Wire(proxies(refuses=True), proxies()) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        driver(with_token(connection_to(tls_server.url))).post()
    assert len(tls_server.requests) == 1


def test_a_proxy_does_not_hide_a_wrong_certificate(
    driver: Driver, tls_server: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a proxy certificates are verified as well."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with Wire(proxies()) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(RedoxTransportError, match=r"extra\.ca_file"):
            driver(with_token(connection_to(tls_server.url))).post()
        assert len(proxy.requests) == 1
    assert not tls_server.requests
