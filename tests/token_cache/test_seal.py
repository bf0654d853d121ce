"""The seal: who has the private key opens it, for everyone else it is noise, and nothing that lies there is an error."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import RSAKey

from airflow_provider_redox.protocol.keys import LocalKey, SigningKey, parse_keys
from airflow_provider_redox.protocol.token import Claim, Token
from airflow_provider_redox.token_cache.seal import EntrySeal

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP384R1())
KEY = LocalKey(RSA_KEY, "RS384", "kid-1")
TOKEN = Token("eyJhbGciOi.t0k3n-v4lue", 1_750_000_000.0, 1_750_000_300.0)
SEAL = EntrySeal(KEY, "f1ngerprint", Token)

times = st.floats(allow_nan=False, allow_infinity=False)
tokens = st.builds(Token, st.text(max_size=200).filter(lambda text: text.isprintable()), times, times)


def pem(private_format: PrivateFormat) -> str:
    return RSA_KEY.private_bytes(Encoding.PEM, private_format, NoEncryption()).decode()


@given(tokens)
def test_round_trip(token: Token) -> None:
    """What was closed opens as it was, times included."""
    assert SEAL.open(SEAL.close(token)) == token


@pytest.mark.parametrize("key", [KEY, LocalKey(EC_KEY, "ES384", "kid-1")], ids=["RSA", "EC"])
def test_both_kinds_of_key(key: SigningKey) -> None:
    """RSA and EC keys seal."""
    assert EntrySeal(key, "x", Token).open(EntrySeal(key, "x", Token).close(TOKEN)) == TOKEN


def test_never_the_same() -> None:
    """Closing the same token again gives another text."""
    assert len({SEAL.close(TOKEN) for _ in range(100)}) == 100


def test_nothing_in_clear() -> None:
    """Neither the text nor its bytes hold the token, its length apart."""
    text = SEAL.close(TOKEN)
    clear = base64.urlsafe_b64decode(text.removeprefix("v1."))
    for start in range(len(TOKEN.value) - 7):
        piece = TOKEN.value[start : start + 8]
        assert piece not in text
        assert piece.encode() not in clear


def test_each_byte_tampered() -> None:
    """A change of any one bit of the sealed bytes makes it no token."""
    sealed = base64.urlsafe_b64decode(SEAL.close(TOKEN).removeprefix("v1."))
    for position in range(len(sealed)):
        for bit in (0, 7):
            damaged = bytearray(sealed)
            damaged[position] ^= 1 << bit
            assert SEAL.open(f"v1.{base64.urlsafe_b64encode(damaged).decode()}") is None


def test_each_character_tampered() -> None:
    """Another character anywhere in the text makes it no token, or leaves it the same token."""
    text = SEAL.close(TOKEN)
    for position in range(len(text)):
        for other in "A_.\n é":
            assert SEAL.open(text[:position] + other + text[position + 1 :]) in (None, TOKEN)


def test_each_length() -> None:
    """A text that is cut off anywhere is no token."""
    text = SEAL.close(TOKEN).rstrip("=")
    assert not [cut for cut in range(len(text) - 1) if SEAL.open(text[:cut]) is not None]


@given(st.one_of(st.text(), st.binary(), st.none(), st.integers(), st.dictionaries(st.text(), st.integers())))
def test_anything_else(content: object) -> None:
    """Whatever else lies there is no token, and no error."""
    assert SEAL.open(content) is None
    assert SEAL.open(f"v1.{content}") is None


def test_far_too_long() -> None:
    """A text beyond any sealed token is not even decoded."""
    assert SEAL.open("v1." + "A" * 20_000_000) is None


@pytest.mark.parametrize(
    "other",
    [
        EntrySeal(KEY, "another-fingerprint", Token),
        EntrySeal(LocalKey(rsa.generate_private_key(65537, 2048), "RS384", "kid-1"), "f1ngerprint", Token),
        EntrySeal(LocalKey(EC_KEY, "ES384", "kid-1"), "f1ngerprint", Token),
    ],
    ids=["another connection", "another key", "a key of another kind"],
)
def test_another_seal(other: EntrySeal[Token]) -> None:
    """An entry of another connection or another key does not open, in either direction."""
    assert other.open(SEAL.close(TOKEN)) is None
    assert SEAL.open(other.close(TOKEN)) is None


def test_a_claim_is_no_token() -> None:
    """An entry put into the place of the other kind does not open, so that nobody can pass a claim off as a token."""
    claims = EntrySeal(KEY, "f1ngerprint", Claim)
    claim = Claim("n0nce", "term", 1.0)
    assert claims.open(claims.close(claim)) == claim
    assert SEAL.open(claims.close(claim)) is None
    assert claims.open(SEAL.close(TOKEN)) is None
    assert claims.name == f"{SEAL.name}__claim"


def test_a_later_version() -> None:
    """An entry of a version that is not known does not open."""
    assert SEAL.open(SEAL.close(TOKEN).replace("v1.", "v2.", 1)) is None


@pytest.mark.parametrize("content", [b"{}", b"[]", b"null", b'{"value": 1, "issued_at": 1, "expires_at": 2}', b"\xff"])
def test_sealed_rubbish(content: bytes) -> None:
    """An entry that opens but holds no token is no token."""
    nonce = bytes(12)
    sealed = AESGCM(derived(KEY, "f1ngerprint")).encrypt(nonce, content, b"f1ngerprint")
    assert SEAL.open(f"v1.{base64.urlsafe_b64encode(nonce + sealed).decode()}") is None


def derived(key: SigningKey, fingerprint: str) -> bytes:
    """HKDF-SHA256 (RFC 5869), written out: the key's secret numbers in, version and fingerprint as info."""
    if isinstance(key.private, rsa.RSAPrivateKey):
        numbers = key.private.private_numbers()
        material = b"".join(prime.to_bytes(256, "big") for prime in sorted((numbers.p, numbers.q)))
    else:
        material = key.private.private_numbers().private_value.to_bytes(48, "big")
    extracted = hmac.new(bytes(32), material, hashlib.sha256).digest()
    info = f"airflow-provider-redox token cache v1 {fingerprint}".encode()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


@pytest.mark.parametrize("key", [KEY, LocalKey(EC_KEY, "ES384", "kid-1")], ids=["RSA", "EC"])
def test_the_format(key: SigningKey) -> None:
    """An entry is `v1.`, then base64url of nonce and AES-256-GCM, under a key that HKDF derives from the private key."""
    sealed = base64.urlsafe_b64decode(EntrySeal(key, "f1ngerprint", Token).close(TOKEN).removeprefix("v1."))
    clear = AESGCM(derived(key, "f1ngerprint")).decrypt(sealed[:12], sealed[12:], b"f1ngerprint")
    assert json.loads(clear) == {"value": TOKEN.value, "issued_at": TOKEN.issued_at, "expires_at": TOKEN.expires_at}


def test_encodings_of_one_key() -> None:
    """Workers that hold one key in different encodings open each other's entries."""
    numbers = RSA_KEY.private_numbers()
    swapped = rsa.RSAPrivateNumbers(
        p=numbers.q,
        q=numbers.p,
        d=numbers.d,
        dmp1=numbers.dmq1,
        dmq1=numbers.dmp1,
        iqmp=rsa.rsa_crt_iqmp(numbers.q, numbers.p),
        public_numbers=numbers.public_numbers,
    ).private_key()
    jwk = json.dumps(RSAKey.import_key(pem(PrivateFormat.PKCS8)).as_dict(private=True))
    texts = [pem(PrivateFormat.PKCS8), pem(PrivateFormat.TraditionalOpenSSL).replace("\n", "\\n"), jwk]
    seals = [EntrySeal(parse_keys(text)[0], "f1ngerprint", Token) for text in texts]
    seals.append(EntrySeal(replace(KEY, private=swapped), "f1ngerprint", Token))
    for one in seals:
        for other in seals:
            assert one.open(other.close(TOKEN)) == TOKEN


def test_the_name() -> None:
    """The entry's name tells the connections apart and fits Airflow's 250 characters."""
    assert SEAL.name == "redox_cache__f1ngerprint"
    assert EntrySeal(KEY, "x" * 32, Token).name != EntrySeal(KEY, "y" * 32, Token).name
