"""What both drivers take from the environment: proxies and the CA bundle. Never netrc."""

from __future__ import annotations

import functools
import os
import ssl
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from airflow_provider_redox.exceptions import RedoxConfigError

CONNECT_TIMEOUT = 15.0
"""Seconds to reach the server, TLS included."""

_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def proxy_for(url: str) -> str | None:
    """Give the proxy that the environment names for a URL (HTTPS_PROXY and kin, NO_PROXY), or None."""
    parts = urlsplit(url)
    proxies = getproxies_environment()
    if proxy_bypass_environment(parts.netloc.rpartition("@")[2], proxies):
        return None
    found = proxies.get(parts.scheme) or proxies.get("all")
    return found if found is None or "://" in found else f"http://{found}"


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Make the context that verifies certificates, with the connection's CA bundle or the environment's.

    Raises `RedoxConfigError` when the bundle cannot be read.
    """
    chosen = ca_file or next((os.environ[name] for name in _CA_VARIABLES if os.environ.get(name)), None)
    name = "extra.ca_file" if ca_file else "the CA bundle that the environment names"
    try:
        return _context(chosen)
    except (OSError, ssl.SSLError):
        raise RedoxConfigError(
            f"{name}: cannot be read as a bundle of PEM certificates on this worker; correct the path"
        ) from None


@functools.lru_cache(maxsize=16)
def _context(ca_file: str | None) -> ssl.SSLContext:
    import certifi

    context = ssl.create_default_context(cafile=ca_file or certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
