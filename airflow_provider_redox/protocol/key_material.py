r"""Parse private keys as people paste them, in PEM, DER and base64, or refuse the text with an error that says what it is.

Damage by web forms and shells is undone: URL encoding (`%0A`, and `+` for a space), newlines that became spaces, `+` or a
literal `\n`, and a `+` of base64 that became a space. A repair counts only if it results in a valid key; a key has internal
consistency checks, so no guess can yield another key. Two different private keys in one text are refused.

Each of these was seen: https://github.com/apache/airflow/issues/49575 (newlines become spaces, and these `+`),
https://github.com/apache/airflow/issues/58573, https://github.com/Netflix/dispatch/issues/1138,
https://github.com/auth0/node-jsonwebtoken/issues/517 (a dash is missing), https://github.com/oven-sh/bun/issues/3911 (`n`
for newlines), https://github.com/OWOX/owox-data-marts/pull/1501 (the body alone).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterator
from typing import TypeAlias
from urllib.parse import unquote, unquote_plus

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

PrivateKey: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey

_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060\u00ad"))
_DASHES = r"[-\u2010-\u2015\u2212]"
_ARMOUR = re.compile(rf"{_DASHES}{{2,}}\s*(BEGIN|END)[ +]+([A-Z0-9][A-Z0-9 +]*?)[ +]*{_DASHES}{{2,}}")
_PEM_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+?)-----(.*?)-----END \1-----", re.DOTALL)
_ESCAPED = re.compile(r"%(?:0[AD]|2[0BFD]|3D)", re.IGNORECASE)
_BETWEEN = " +\r\nrn"  # what became of a newline; n of a written one whose backslash a shell ate
_LINE = 64  # characters of a line of PEM (RFC 7468 section 2)

_PRIVATE_LABELS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
_IS_PUBLIC = "is a public key; paste the private key of the pair"
_IS_CERTIFICATE = "is a certificate; paste the private key that belongs to it"
_IS_ENCRYPTED = "is encrypted with a passphrase; decrypt it with `openssl pkey -in FILE`"
_IS_CUT = "is damaged or cut off; paste it again, whole"
_WRONG_LABELS = {
    "PUBLIC KEY": _IS_PUBLIC,
    "RSA PUBLIC KEY": _IS_PUBLIC,
    "CERTIFICATE": _IS_CERTIFICATE,
    "CERTIFICATE REQUEST": "is a certificate request; paste the private key that belongs to it",
    "OPENSSH PRIVATE KEY": "is in OpenSSH's own format; convert it with `ssh-keygen -p -m PEM -f FILE`",
    "ENCRYPTED PRIVATE KEY": _IS_ENCRYPTED,
}
_WRONG_STARTS = {
    "PuTTY-User-Key-File": "is in PuTTY's own format; export it with `puttygen FILE -O private-openssh`, then to PEM",
    "ssh-": _IS_PUBLIC,
    "ecdsa-sha2-": _IS_PUBLIC,
}
_PKCS12 = re.compile(rb"0(?:\x82..|\x81.|\x80|[\x00-\x7f])\x02\x01\x03", re.DOTALL)
"""How a PFX begins: a sequence, and version 3 (RFC 7292 section 4)."""


class UnusableKeyError(Exception):
    """Why a key cannot sign: the end of a sentence that begins with "the key" or "the private key"."""


class DamagedKeyError(UnusableKeyError):
    """A signing key that cannot be read; it is an error even if another key can sign."""


def cleaned(text: str) -> str:
    """Return pasted text without surrounding quotes, byte-order marks and other invisible characters."""
    stripped = text.translate(_INVISIBLE).strip()
    while len(stripped) > 1 and stripped[0] == stripped[-1] and stripped[0] in "\"'`":
        stripped = stripped[1:-1].strip()
    return stripped


def is_pem(text: str) -> bool:
    """Return whether text holds the first line of a PEM, even if it was changed."""
    return "-----BEGIN" in text or "BEGIN" in _pem_text(text)


def pem_key(text: str) -> PrivateKey:
    """Parse the only private key of a PEM; certificates and public keys beside it are ignored.

    Raises `UnusableKeyError`.
    """
    blocks = _PEM_BLOCK.findall(re.sub(r"\\+r\\+n|\\+[rn]", "\n", _pem_text(text)))
    bodies = list(dict.fromkeys(body for label, body in blocks if label in _PRIVATE_LABELS))
    if bodies:
        return _only([_body_key(body) for body in bodies])
    labels = [label for label, _ in blocks]
    for label, sentence in _WRONG_LABELS.items():
        if label in labels:
            raise UnusableKeyError(sentence)
    if blocks:
        raise UnusableKeyError("is a PEM of another kind; paste the block that begins with -----BEGIN PRIVATE KEY-----")
    raise UnusableKeyError("is cut off: its -----END line is missing or does not fit; paste it whole")


def hidden_text(text: str) -> str | None:
    """Return the PEM or JSON text that base64 text decodes to; None if it decodes to something else, or is not base64."""
    content = _base64_bytes(next(_readings(_bare(text)))) or b""
    if content.lstrip(b"\xef\xbb\xbf \r\n").startswith((b"-----BEGIN", b"{", b"[")):
        return content.decode("utf-8", "replace")
    return None


def bare_key(text: str) -> PrivateKey:
    """Parse base64 of a DER, without the BEGIN and END lines of a PEM. Raises `UnusableKeyError`."""
    for start, sentence in _WRONG_STARTS.items():
        if text.startswith(start):
            raise UnusableKeyError(sentence)
    if text.count(".") == 4 and text.startswith("eyJ"):
        raise UnusableKeyError("is an encrypted JWK (JWE); paste what it decrypts to")
    ders = [der for reading in _readings(_bare(text)) if len(der := _base64_bytes(reading) or b"") >= 32]
    if not ders:
        raise UnusableKeyError("is not in a form that is known; paste it as PEM (-----BEGIN PRIVATE KEY-----) or as JWK")
    return _first_key(ders)


def _der_key(der: bytes) -> PrivateKey:
    """Parse a DER. Raises `UnusableKeyError` with what it is, if it is not a private key."""
    try:
        key = load_der_private_key(der, None)
    except TypeError:
        raise UnusableKeyError(_IS_ENCRYPTED) from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKeyError(_other_der(der)) from None
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
        raise UnusableKeyError("is of a type that Redox does not take; make an RSA key of 2048 bits or more")
    return key


def _pem_text(text: str) -> str:
    """Return text with URL encoding undone, and with the dashes and spaces of its BEGIN and END lines repaired."""
    if _ESCAPED.search(text):
        text = unquote_plus(text) if "BEGIN+" in text else unquote(text)
    return _ARMOUR.sub(lambda found: f"-----{found[1]} {' '.join(found[2].replace('+', ' ').split())}-----", text)


def _only(keys: list[PrivateKey]) -> PrivateKey:
    """Return the only key, which may occur more than once. Raises `UnusableKeyError` for two different keys."""
    if any(key.private_numbers() != keys[0].private_numbers() for key in keys):
        raise UnusableKeyError("is one of several: the PEM holds different private keys; paste the one that is to sign")
    return keys[0]


def _body_key(body: str) -> PrivateKey:
    if "ENCRYPTED" in body:
        raise UnusableKeyError(_IS_ENCRYPTED)
    ders = [der for reading in _readings(body) if (der := _base64_bytes(reading)) is not None]
    if not ders:
        raise UnusableKeyError("is damaged: its body is not base64; paste it again, whole")
    return _first_key(ders)


def _first_key(ders: list[bytes]) -> PrivateKey:
    """Return the key of the first reading that can be parsed; if there is none, raise the error of the first reading."""
    refusals: list[UnusableKeyError] = []
    for der in dict.fromkeys(ders):
        try:
            return _der_key(der)
        except UnusableKeyError as unusable:
            refusals.append(unusable)
    raise refusals[0]


def _bare(text: str) -> str:
    """Return base64 with URL encoding and escaped newlines undone, in the standard alphabet."""
    plain = unquote(text) if _ESCAPED.search(text) else text
    return re.sub(r"\\+[rn]", "", plain).translate(str.maketrans("-_", "+/"))


def _readings(body: str) -> Iterator[str]:
    """Yield what base64 text may have been before it was pasted; first the text as it is.

    A web form may have turned newlines into spaces, every `+` into a space too, or every space into `+`. Positions tell
    them apart: a PEM has lines of 64 characters.
    """
    yield re.sub(r"\s", "", body)
    lines = [line.strip() for line in body.splitlines()]
    yield "".join(lines).replace(" ", "+")
    for between in (1, 2):  # a newline was one character, or two
        flat = body[between:] if body[:between].strip(_BETWEEN) == "" else body
        flat = flat[:-between] if flat[-between:].strip(_BETWEEN) == "" else flat
        places = range(0, len(flat), _LINE + between)
        yield "".join(flat[start : start + _LINE] for start in places).replace(" ", "+")


def _base64_bytes(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _other_der(der: bytes) -> str:
    """Return the error for a DER that is not a private key, by what it is."""
    if _PKCS12.match(der):
        return "is a PKCS#12 file (.p12, .pfx); take the key out with `openssl pkcs12 -in FILE -nocerts -noenc`"
    with contextlib.suppress(ValueError, UnsupportedAlgorithm):
        load_der_public_key(der)
        return _IS_PUBLIC
    with contextlib.suppress(ValueError, UnsupportedAlgorithm):
        x509.load_der_x509_certificate(der)
        return _IS_CERTIFICATE
    return _IS_CUT
