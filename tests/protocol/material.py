"""Keys made for this run, in every form in which people paste them, and a connection's settings around them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import quote, quote_plus

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from airflow_provider_redox.protocol.key_material import PrivateKey
from airflow_provider_redox.protocol.keys import LocalKey, SigningKey
from airflow_provider_redox.protocol.settings import Settings

KINDS = ("RSA 2048", "RSA 3072", "EC P-384")
CLIENT_ID = "11111111-2222-4333-8444-555555555555"


@cache
def private_key(kind: str) -> PrivateKey:
    """Make a key once in this run."""
    if kind.startswith("RSA"):
        return rsa.generate_private_key(65537, int(kind.removeprefix("RSA ")))
    return ec.generate_private_key({"EC P-384": ec.SECP384R1, "EC P-256": ec.SECP256R1}[kind]())


@cache
def signing_key(kind: str = "RSA 2048", kid: str | None = "kid-1") -> SigningKey:
    """Give the key as the package holds it."""
    key = private_key(kind)
    return LocalKey(key, "RS384" if isinstance(key, rsa.RSAPrivateKey) else "ES384", kid)


def pkcs8(kind: str) -> str:
    """Give the key as PKCS#8 PEM."""
    return private_key(kind).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def traditional(kind: str) -> str:
    """Give the key as PKCS#1 or SEC1 PEM."""
    return private_key(kind).private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def der(kind: str) -> bytes:
    """Give the key as PKCS#8 DER."""
    return private_key(kind).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def jwk(kind: str, **more: Any) -> dict[str, Any]:
    """Give the private key as a JWK, with further members."""
    name = {"RSA 2048": "RS384", "RSA 3072": "RS384", "EC P-384": "ES384", "EC P-256": "ES256"}[kind]
    return {**jwt.get_algorithm_by_name(name).to_jwk(private_key(kind), as_dict=True), **more}


def _b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


EC_PARAMETERS = "-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n"
"""What `openssl ecparam -genkey` writes in front: the OID of secp384r1, nothing secret."""

ALONG = (
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n{}"
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n"
)
"""What people paste along with a private key: only the lines around it are looked at."""

FORMS: dict[str, Callable[[str], str]] = {
    "PKCS#8": pkcs8,
    "PKCS#1 or SEC1": traditional,
    "EC PARAMETERS in front": lambda kind: EC_PARAMETERS + traditional(kind),
    "CRLF": lambda kind: pkcs8(kind).replace("\n", "\r\n"),
    "CR only": lambda kind: pkcs8(kind).replace("\n", "\r"),
    "literal backslash-n": lambda kind: pkcs8(kind).replace("\n", "\\n"),
    "literal backslash-r-backslash-n": lambda kind: pkcs8(kind).replace("\n", "\\r\\n"),
    "two backslashes and n": lambda kind: pkcs8(kind).replace("\n", "\\\\n"),
    "spaces for newlines": lambda kind: pkcs8(kind).replace("\n", " "),
    "SEC1 with spaces for newlines": lambda kind: (EC_PARAMETERS + traditional(kind)).replace("\n", " "),
    "nothing for newlines": lambda kind: pkcs8(kind).replace("\n", ""),
    "indented": lambda kind: "".join(f"    {line}\n" for line in pkcs8(kind).splitlines()),
    "text around": lambda kind: f"Bag Attributes\n    friendlyName: key\n{pkcs8(kind)}\nthe end",
    "base64 of the PEM": lambda kind: _b64(pkcs8(kind)),
    "base64 of the PEM in lines": lambda kind: base64.encodebytes(pkcs8(kind).encode()).decode(),
    "base64 of a PEM with CRLF": lambda kind: _b64(pkcs8(kind).replace("\n", "\r\n")),
    "base64 of the JWK": lambda kind: _b64(json.dumps(jwk(kind))),
    "base64 of the DER": lambda kind: _b64(der(kind)),
    "base64 of the DER without padding": lambda kind: _b64(der(kind)).rstrip("="),
    "double quotes": lambda kind: f'"{pkcs8(kind)}"',
    "single quotes and spaces": lambda kind: f"  '{pkcs8(kind)}' \n",
    "quotes and literal backslash-n": lambda kind: json.dumps(pkcs8(kind)),
    "quotes in quotes": lambda kind: f"'{json.dumps(pkcs8(kind))}'",
    "backticks": lambda kind: f"`{pkcs8(kind)}`",
    "URL-encoded": lambda kind: quote_plus(pkcs8(kind)),
    "URL-encoded with CRLF": lambda kind: quote_plus(pkcs8(kind).replace("\n", "\r\n")),
    "URL-encoded with %20": lambda kind: quote(pkcs8(kind), safe="/+=-"),
    "plus for spaces": lambda kind: pkcs8(kind).replace(" ", "+"),
    "plus for spaces and newlines": lambda kind: pkcs8(kind).replace(" ", "+").replace("\n", "+"),
    "plus for spaces and newlines of CRLF": lambda kind: traditional(kind).replace(" ", "+").replace("\n", "++"),
    "spaces for plus": lambda kind: pkcs8(kind).replace("+", " "),
    "spaces for plus and newlines": lambda kind: pkcs8(kind).replace("+", " ").replace("\n", " "),
    "a certificate and a public key around": lambda kind: ALONG.format(pkcs8(kind)),
    "the same key twice": lambda kind: pkcs8(kind) + traditional(kind),
    "n for newlines": lambda kind: pkcs8(kind).replace("\n", "n"),
    "rn for newlines": lambda kind: traditional(kind).replace("\n", "rn"),
    "a dash missing": lambda kind: pkcs8(kind)[1:],
    "the body alone": lambda kind: "".join(pkcs8(kind).splitlines()[1:-1]),
    "the body of PKCS#1 or SEC1 alone": lambda kind: "\n".join(traditional(kind).splitlines()[1:-1]),
    "long dashes": lambda kind: pkcs8(kind).replace("-----", "\u2014\u2014-"),
    "characters nobody sees": lambda kind: pkcs8(kind).replace("\n", "\u200b\n\u00a0"),
    "quotes and CRLF": lambda kind: '"' + pkcs8(kind).replace("\n", "\r\n") + '"\r\n',
    "URL-safe base64 of the DER": lambda kind: base64.urlsafe_b64encode(der(kind)).decode().rstrip("="),
    "base64 of the DER, spaces for plus": lambda kind: _b64(der(kind)).replace("+", " "),
    "base64 of the DER, URL-encoded": lambda kind: quote(_b64(der(kind)), safe=""),
    "byte-order mark": lambda kind: "\ufeff" + pkcs8(kind),
    "JWK": lambda kind: json.dumps(jwk(kind)),
    "JWK on several lines": lambda kind: json.dumps(jwk(kind), indent=2),
    "JWK with a byte-order mark": lambda kind: "\ufeff" + json.dumps(jwk(kind)),
    "JWK with kid, alg and use": lambda kind: json.dumps(jwk(kind, kid="kid-1", use="sig", alg=_algorithm(kind))),
    "JWK escaped for JSON": lambda kind: json.dumps(json.dumps(jwk(kind)))[1:-1],
    "JWK quoted for JSON": lambda kind: json.dumps(json.dumps(jwk(kind))),
    "JWK of several lines quoted for JSON": lambda kind: json.dumps(json.dumps(jwk(kind), indent=2)),
    "JWK with nulls": lambda kind: json.dumps(jwk(kind, kid=None, use=None, alg=None, key_ops=None, x5c=None)),
    "JWK of WebCrypto": lambda kind: json.dumps(jwk(kind, ext=True, key_ops=["sign"])),
    "JWKS": lambda kind: json.dumps({"keys": [jwk(kind)]}),
    "JWKS as a bare list": lambda kind: json.dumps([jwk(kind)]),
}


def _algorithm(kind: str) -> str:
    return "RS384" if kind.startswith("RSA") else "ES384"


def settings(kind: str = "RSA 2048", *, host: str | None = None, port: int | None = None, **extra: Any) -> Settings:
    """Make a checked connection; `extra` goes beside a client ID and a key ID."""
    whole = {"client_id": CLIENT_ID, "kid": "kid-1", **extra}
    return Settings.from_fields(keys=(signing_key(kind, None),), host=host, port=port, extra=whole)
