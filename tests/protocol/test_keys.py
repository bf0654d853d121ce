"""Private keys: every pasted form gives the same key, and what cannot sign is refused without being quoted."""

from __future__ import annotations

import base64
import json
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.keys import SigningKey, choose_keys, parse_keys
from airflow_provider_redox.protocol.settings import Settings

from .flows import said_by
from .material import CLIENT_ID, FORMS, KINDS, der, jwk, pkcs8, private_key, signing_key, traditional


def identity(keys: tuple[SigningKey, ...]) -> tuple[bytes, str]:
    """Say what a key is: its secret, and the name under which its tokens are cached."""
    fields = {"client_id": CLIENT_ID, "kid": "kid-1"}
    return keys[0].secret_numbers(), Settings.from_fields(keys=keys, extra=fields).fingerprint


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_every_pasted_form_is_the_same_key(kind: str, form: str) -> None:
    """A key pasted in any known form has the same secret and the same fingerprint as the key itself."""
    assert identity(parse_keys(FORMS[form](kind))) == identity((signing_key(kind, None),))


@pytest.mark.parametrize(("kind", "algorithm"), list(zip(KINDS, ("RS384", "RS384", "ES384"), strict=True)))
def test_the_algorithm_follows_from_the_key(kind: str, algorithm: str) -> None:
    """RSA signs RS384 and P-384 signs ES384, whatever else the connection says."""
    assert parse_keys(pkcs8(kind))[0].algorithm == algorithm


@pytest.mark.parametrize(("kind", "length"), list(zip(KINDS, (2 * 256, 2 * 384, 48), strict=True)))
def test_the_secret_numbers_have_a_fixed_length(kind: str, length: int) -> None:
    """The secret is of one length for one kind of key, however small its numbers are."""
    assert len(signing_key(kind).secret_numbers()) == length


def test_a_jwk_without_its_primes_is_the_same_key() -> None:
    """A JWK that holds n, e and d only gives the same secret numbers as the whole one."""
    short = {name: value for name, value in jwk("RSA 2048").items() if name in ("kty", "n", "e", "d")}
    assert parse_keys(json.dumps(short))[0].secret_numbers() == signing_key("RSA 2048").secret_numbers()


def test_the_order_of_the_primes_does_not_matter() -> None:
    """A key that another tool wrote with its two primes swapped has the same secret numbers."""
    numbers = private_key("RSA 2048").private_numbers()
    p, q, e = numbers.p, numbers.q, numbers.public_numbers
    swapped = rsa.RSAPrivateNumbers(q, p, numbers.d, numbers.dmq1, numbers.dmp1, rsa.rsa_crt_iqmp(q, p), e).private_key()
    assert parse_keys(_private(swapped))[0].secret_numbers() == signing_key("RSA 2048").secret_numbers()


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_goes_out_as_pem_and_comes_back(kind: str) -> None:
    """A key written as PEM is read as the same key."""
    assert parse_keys(signing_key(kind).pem())[0].secret_numbers() == signing_key(kind).secret_numbers()


@pytest.mark.parametrize("kind", KINDS)
def test_the_public_jwk_holds_nothing_private(kind: str) -> None:
    """The public half has no member that only a private JWK has, and names key ID, algorithm and use."""
    public = signing_key(kind).public_jwk()
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(public)
    assert (public["kid"], public["use"], public["alg"]) == ("kid-1", "sig", signing_key(kind).algorithm)


# ── choosing ──


def test_a_jwk_brings_its_key_id() -> None:
    """A JWK's kid is used when the connection names none."""
    keys = parse_keys(json.dumps(jwk("RSA 2048", kid="own")))
    assert [key.kid for key in choose_keys(keys, kid=None, algorithm=None)] == ["own"]


def two_keys() -> tuple[SigningKey, ...]:
    return parse_keys(json.dumps({"keys": [jwk("RSA 2048", kid="old"), jwk("RSA 3072", kid="new")]}))


@pytest.mark.parametrize(("kid", "kind"), [("old", "RSA 2048"), ("new", "RSA 3072")])
def test_the_key_id_chooses_from_a_jwks(kid: str, kind: str) -> None:
    """Of a JWKS the key with the connection's key ID signs."""
    (chosen,) = choose_keys(two_keys(), kid=kid, algorithm=None)
    assert (chosen.kid, chosen.secret_numbers()) == (kid, signing_key(kind).secret_numbers())


def test_several_private_keys_stay_in_the_order_of_the_jwks() -> None:
    """Without a key ID in the connection every private key of the JWKS may sign, the first one first."""
    assert [key.kid for key in choose_keys(two_keys(), kid=None, algorithm=None)] == ["old", "new"]


def test_each_of_several_keys_needs_a_key_id() -> None:
    """A JWKS in which a private key has no key ID is refused, unless the connection names one."""
    keys = parse_keys(json.dumps({"keys": [jwk("RSA 2048", kid="old"), jwk("RSA 3072")]}))
    with pytest.raises(RedoxConfigError, match=r"^extra\.kid: missing"):
        choose_keys(keys, kid=None, algorithm=None)


def test_the_algorithm_can_choose_from_a_jwks() -> None:
    """Two keys of different kinds are told apart by the algorithm."""
    keys = parse_keys(json.dumps({"keys": [jwk("RSA 2048", kid="rsa"), jwk("EC P-384", kid="ec")]}))
    assert [key.kid for key in choose_keys(keys, kid=None, algorithm="ES384")] == ["ec"]


def test_a_key_id_that_is_not_in_the_jwks_is_refused() -> None:
    """A key ID that no key of the JWKS has is refused, and not put on another key."""
    with pytest.raises(RedoxConfigError, match=r"^extra\.kid: no key in the JWKS"):
        choose_keys(two_keys(), kid="other", algorithm=None)


def test_public_keys_of_a_jwks_are_left_out() -> None:
    """A JWKS may hold public keys beside the private one; only the private one is taken."""
    public = {name: value for name, value in jwk("RSA 3072", kid="public").items() if name in ("kty", "n", "e", "kid")}
    keys = parse_keys(json.dumps({"keys": [public, jwk("RSA 2048", kid="private")]}))
    assert [key.kid for key in keys] == ["private"]


def test_encryption_keys_of_a_jwks_are_left_out() -> None:
    """A private key whose use is encryption does not sign."""
    keys = parse_keys(json.dumps({"keys": [jwk("RSA 3072", use="enc"), jwk("RSA 2048", use="sig", kid="private")]}))
    assert [key.kid for key in keys] == ["private"]


OTHERS: dict[str, Any] = {
    "a post-quantum key": {"kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA", "priv": "AAAA", "kid": "pq"},
    "a symmetric key": {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"},
    "an Ed25519 key": {"kty": "OKP", "crv": "Ed25519", "d": "c2VjcmV0", "x": "eA", "kid": "okp"},
    "a key on secp256k1": {"kty": "EC", "crv": "secp256k1", "d": "AA", "x": "AA", "y": "AA", "kid": "bitcoin"},
    "a key on P-256": lambda: jwk("EC P-256", kid="p256"),
    "a key for RS256": lambda: jwk("RSA 3072", kid="rs256", alg="RS256"),
    "a key for encryption": lambda: jwk("RSA 3072", kid="enc", use="enc"),
    "a key for RSA-OAEP": lambda: jwk("RSA 3072", kid="oaep", alg="RSA-OAEP"),
    "an encrypted key": "eyJhbGciOiJQQkVTMiJ9.AA.AA.AA.AA",
    "an encrypted key as JSON": {"protected": "AA", "encrypted_key": "AA", "iv": "AA", "ciphertext": "AA", "tag": "AA"},
    "a null": None,
    "an empty object": {},
    "a key of nulls": {"kty": None, "d": None, "n": None, "e": None, "kid": None},
    "its own public half": lambda: {n: v for n, v in jwk("RSA 2048", kid="ours").items() if n in ("kty", "n", "e", "kid")},
}


@pytest.mark.parametrize("kid", ["ours", None])
@pytest.mark.parametrize("what", OTHERS)
def test_what_is_not_ours_in_a_jwks_is_passed_over(what: str, kid: str | None) -> None:
    """A JWKS holds keys of others, too; ours signs, before and behind them, with and without its key ID given."""
    other = OTHERS[what]() if callable(OTHERS[what]) else OTHERS[what]
    for entries in ([other, jwk("RSA 2048", kid="ours")], [jwk("RSA 2048", kid="ours"), other]):
        keys = parse_keys(json.dumps({"keys": entries}), kid=kid)
        assert [key.kid for key in choose_keys(keys, kid=kid, algorithm=None)] == ["ours"]


def test_a_damaged_key_of_others_is_passed_over_and_ours_is_not() -> None:
    """With a key ID nothing else is read; without one, or where it is ours, damage is an error and no other key's turn."""
    text = json.dumps({"keys": [jwk("RSA 3072", kid="other", d="*"), jwk("RSA 2048", kid="ours")]})
    assert [key.kid for key in parse_keys(text, kid="ours")] == ["ours"]
    for kid in (None, "other"):
        with pytest.raises(RedoxConfigError, match="cannot be read"):
            parse_keys(text, kid=kid)


def test_a_key_id_that_is_missing_is_told_with_those_that_there_are() -> None:
    """The refusal names the key IDs of the JWKS."""
    text = json.dumps({"keys": [jwk("RSA 2048", kid="old"), jwk("RSA 3072", kid="new"), jwk("EC P-384", kid="x", d="*")]})
    with pytest.raises(RedoxConfigError, match=r"^extra\.kid: no key in the JWKS has this key ID.*It has old, new$"):
        choose_keys(parse_keys(text, kid="neu"), kid="neu", algorithm=None)


def test_two_keys_of_one_key_id_are_refused() -> None:
    """Two different private keys with one key ID are ambiguous; the same key twice is one."""
    two = parse_keys(json.dumps({"keys": [jwk("RSA 2048", kid="k"), jwk("RSA 3072", kid="k")]}), kid="k")
    with pytest.raises(RedoxConfigError, match="two private keys of the JWKS have one key ID"):
        choose_keys(two, kid="k", algorithm=None)
    same = parse_keys(json.dumps({"keys": [jwk("RSA 2048", kid="k")] * 2}), kid="k")
    assert len(choose_keys(same, kid="k", algorithm=None)) == 1


MANGLING = (
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace("\n", " "),
    lambda text: text.replace("\n", "\\n"),
    lambda text: text.replace("+", " "),
    lambda text: text.replace(" ", "+"),
    quote_plus,
    unquote_plus,
    lambda text: f'"{text}"',
    lambda text: f"\ufeff{text} ",
    lambda text: base64.b64encode(text.encode()).decode(),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), st.lists(st.sampled_from(MANGLING), max_size=4))
def test_a_mangled_key_is_itself_or_refused(kind: str, mangling: list[Any]) -> None:
    """Whatever forms and shells make of a PEM, one after the other, it is read as the same key, or refused."""
    text = pkcs8(kind)
    for mangle in mangling:
        text = mangle(text)
    try:
        (key,) = parse_keys(text)
    except RedoxConfigError:
        return
    assert key.secret_numbers() == signing_key(kind).secret_numbers()


def test_a_key_without_any_key_id_is_refused() -> None:
    """A PEM in a connection without extra.kid is refused before any request."""
    with pytest.raises(RedoxConfigError, match=r"^extra\.kid: missing"):
        choose_keys(parse_keys(pkcs8("RSA 2048")), kid=None, algorithm=None)


@pytest.mark.parametrize(("kind", "algorithm"), [("RSA 2048", "ES384"), ("EC P-384", "RS384")])
def test_an_algorithm_that_does_not_fit_the_key_is_refused(kind: str, algorithm: str) -> None:
    """RSA with ES384 and P-384 with RS384 are refused before any request."""
    with pytest.raises(RedoxConfigError, match=r"^extra\.algorithm: .* does not fit the key"):
        choose_keys(parse_keys(pkcs8(kind)), kid="k", algorithm=algorithm)


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS384", "RS256", "rs384", "ES256", "PS384", ""])
def test_other_algorithms_are_refused(algorithm: str) -> None:
    """Nothing but RS384 and ES384 signs, and `none` least of all."""
    with pytest.raises(RedoxConfigError, match=r"^extra\.algorithm: must be one of RS384, ES384$"):
        choose_keys(parse_keys(pkcs8("RSA 2048")), kid="k", algorithm=algorithm)


# ── refusing ──


def _public_pem() -> str:
    public = private_key("RSA 2048").public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _public_der() -> bytes:
    return private_key("RSA 2048").public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _certificate() -> str:
    key, name = private_key("RSA 2048"), x509.Name([])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _request() -> str:
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    return builder.sign(private_key("RSA 2048"), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _private(key: object, form: PrivateFormat = PrivateFormat.PKCS8, passphrase: bytes = b"") -> str:
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, protection).decode()  # type: ignore[attr-defined]


def _encrypted_der() -> str:
    protection = BestAvailableEncryption(b"passphrase")
    return base64.b64encode(private_key("RSA 2048").private_bytes(Encoding.DER, PrivateFormat.PKCS8, protection)).decode()


def _body_cut() -> str:
    lines = pkcs8("RSA 2048").splitlines()
    return "\n".join([*lines[:8], lines[-1]])


def _body_misses_a_character() -> str:
    lines = pkcs8("RSA 2048").splitlines()
    return "\n".join([*lines[:3], lines[3][1:], *lines[4:]])


def _without(member: str) -> str:
    return json.dumps({name: value for name, value in jwk("EC P-384").items() if name != member})


UNUSABLE = {
    "a public PEM": (_public_pem, "is a public key;"),
    "a public PKCS#1 PEM": (
        lambda: private_key("RSA 2048").public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode(),
        "is a public key;",
    ),
    "a public JWK": (lambda: _without("d"), "is a public JWK"),
    "a certificate": (_certificate, "is a certificate;"),
    "a certificate request": (_request, "is a certificate request;"),
    "an OpenSSH key": (lambda: _private(private_key("RSA 2048"), PrivateFormat.OpenSSH), "is in OpenSSH's own format;"),
    "an encrypted PKCS#8": (lambda: _private(private_key("RSA 2048"), passphrase=b"x"), "is encrypted with a passphrase;"),
    "an encrypted PKCS#1": (
        lambda: _private(private_key("RSA 2048"), PrivateFormat.TraditionalOpenSSL, b"x"),
        "is encrypted with a passphrase;",
    ),
    "an encrypted SEC1 on one line": (
        lambda: _private(private_key("EC P-384"), PrivateFormat.TraditionalOpenSSL, b"x").replace("\n", " "),
        "is encrypted with a passphrase;",
    ),
    "an encrypted DER": (_encrypted_der, "is encrypted with a passphrase;"),
    "a PEM without its end": (lambda: pkcs8("RSA 2048")[:900], "is cut off:"),
    "a PEM with another end": (lambda: pkcs8("RSA 2048").replace("END PRIVATE", "END RSA PRIVATE"), "is cut off:"),
    "a PEM with half a body": (_body_cut, "is damaged or cut off;"),
    "a PEM that misses a character": (_body_misses_a_character, "is damaged"),
    "a PEM with a stray character": (lambda: pkcs8("RSA 2048").replace("M", "*", 1), "is damaged: its body is not base64;"),
    "half a base64 DER": (lambda: base64.b64encode(der("RSA 2048")[:600]).decode(), "is damaged or cut off;"),
    "garbage": (lambda: "correct horse battery staple", "is not in a form that is known;"),
    "a short word": (lambda: "hunter2", "is not in a form that is known;"),
    "parameters only": (
        lambda: "-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----",
        "is a PEM of another kind;",
    ),
    "a public key's DER": (lambda: _b64(_public_der()), "is a public key;"),
    "a certificate's DER": (lambda: "".join(_certificate().splitlines()[1:-1]), "is a certificate;"),
    "a public SSH key": (lambda: f"ssh-rsa {_b64(_public_der())} me@host", "is a public key;"),
    "a PKCS#12 file": (
        lambda: _b64(serialize_key_and_certificates(b"n", private_key("RSA 2048"), None, None, NoEncryption())),
        "is a PKCS#12 file",
    ),
    "a PuTTY key": (lambda: "PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n" + "A" * 80, "is in PuTTY's own format;"),
    "an encrypted JWK": (lambda: "eyJhbGciOiJQQkVTMiJ9." + ".".join(["secretsecret"] * 4), "is an encrypted JWK (JWE);"),
    "a JWK for encryption": (lambda: json.dumps(jwk("RSA 2048", use="enc")), "is a JWK that is not for signing,"),
    "a JWK that decrypts": (lambda: json.dumps(jwk("RSA 2048", key_ops=["decrypt"])), "is a JWK that is not for signing,"),
    "two private keys": (lambda: pkcs8("RSA 2048") + pkcs8("RSA 3072"), "is one of several:"),
    "two private keys of two kinds": (lambda: traditional("RSA 2048") + traditional("EC P-384"), "is one of several:"),
    "RSA of 1024 bits": (lambda: _private(rsa.generate_private_key(65537, 1024)), "has 1024 bits;"),
    "P-256": (lambda: _private(private_key("EC P-256")), "is on the curve secp256r1;"),
    "a JWK on P-256": (lambda: json.dumps(jwk("EC P-256")), "is on the curve secp256r1;"),
    "P-521": (lambda: _private(ec.generate_private_key(ec.SECP521R1())), "is on the curve secp521r1;"),
    "Ed25519": (lambda: _private(ed25519.Ed25519PrivateKey.generate()), "is of a type that Redox does not take;"),
    "DSA": (lambda: _private(dsa.generate_private_key(1024)), "is of a type that Redox does not take;"),
    "DSA in its own format": (
        lambda: _private(dsa.generate_private_key(1024), PrivateFormat.TraditionalOpenSSL),
        "is a PEM of another kind;",
    ),
    "an oct JWK": (lambda: json.dumps({"kty": "oct", "k": "c2VjcmV0LXNlY3JldA"}), "is a JWK of a type"),
    "an OKP JWK": (lambda: json.dumps({"kty": "OKP", "crv": "Ed25519", "d": "c2VjcmV0", "x": "eA"}), "is a JWK of a type"),
    "a JWK whose kty is a list": (lambda: json.dumps({"kty": ["RSA"]}), "is a JWK of a type"),
    "a JWK for RS256": (lambda: json.dumps(jwk("RSA 2048", alg="RS256")), "is a JWK whose `alg` does not fit:"),
    "a JWK that lacks a number": (lambda: _without("x"), "is a JWK that cannot be read:"),
    "a JWK with a damaged number": (lambda: json.dumps(jwk("RSA 2048", d="*")), "is a JWK that cannot be read:"),
    "a JWK with numbers that do not fit": (lambda: json.dumps(jwk("RSA 2048", d="AQAB")), "is a JWK that cannot be read:"),
    "a JWK with a lone surrogate": (lambda: json.dumps(jwk("RSA 2048", d="\ud800")), "is a JWK that cannot be read:"),
    "half a JWK": (lambda: json.dumps(jwk("RSA 2048"))[:400], "looks like a JWK but is not valid JSON;"),
    "half an escaped JWK": (
        lambda: json.dumps(json.dumps(jwk("RSA 2048")))[1:400],
        "looks like a JWK but is not valid JSON;",
    ),
    "a JWK nested without end": (lambda: "[" * 100_000, "looks like a JWK but is not valid JSON;"),
    "a JWKS of texts": (lambda: json.dumps({"keys": ["secret-secret-secret"]}), "looks like a JWKS,"),
    "a JWKS of nothing": (lambda: json.dumps({"keys": None}), "looks like a JWKS,"),
}


def _refusal(text: str) -> RedoxConfigError:
    with pytest.raises(RedoxConfigError) as raised:
        parse_keys(text)
    return raised.value


@pytest.mark.parametrize("what", UNUSABLE)
def test_what_cannot_sign_gets_its_own_sentence(what: str) -> None:
    """A paste that cannot sign is refused with the field, what it is, and what to do."""
    make, sentence = UNUSABLE[what]
    assert str(_refusal(make())).startswith(f"password: the private key {sentence}")


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_refusal_holds_no_part_of_the_key(what: str) -> None:
    """No eight characters of what was pasted stand in the error, its repr or anything in its chain."""
    text = UNUSABLE[what][0]()
    body = "".join(line for line in text.splitlines() if not line.startswith("-----"))
    heard = said_by(_refusal(text))
    pieces = {body[start : start + 8] for start in range(min(len(body), 3000) - 8)} - {'{"kty": ', "{'kty': "}
    assert not [piece for piece in pieces if piece in heard]


def test_a_refusal_has_an_empty_chain() -> None:
    """A refusal is raised outside of the parser's own errors, which hold what they could not parse."""
    error = _refusal('{"kty": "RSA", "d": "secret')
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize("text", ["", " ", "\n\r\n", "\ufeff", '""', "''", '" "'])
def test_an_empty_key_is_refused_as_empty(text: str) -> None:
    """Nothing, or nothing within quotes, is an empty key."""
    assert str(_refusal(text)) == "password: the private key is empty; paste it as PEM or JWK"


def test_a_refusal_names_the_field_that_it_is_told() -> None:
    """A key that came from a file is named as the file's field."""
    with pytest.raises(RedoxConfigError, match=r"^extra\.key_file: the private key"):
        parse_keys("garbage", field_name="extra.key_file")


@settings(max_examples=100, deadline=None)
@given(st.text())
@example("-----BEGIN PRIVATE KEY-----" * 3)
@example('{"keys": [{"kty": {}, "d": []}]}')
@example('{"keys": [{"kty": "RSA", "d": 1, "n": "\ud800", "e": "AQAB"}]}')
@example('{\\"' * 5)
@example(base64.b64encode(b"-----BEGIN " + b"{" * 50).decode())
@example("AAAA" * 20)
def test_any_text_is_a_key_or_a_config_error(text: str) -> None:
    """Whatever is pasted, there is a key or a RedoxConfigError, nothing else."""
    try:
        keys = parse_keys(text)
    except RedoxConfigError:
        return
    assert all(isinstance(key, SigningKey) for key in keys)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["", "{", '{"kty": "RSA", "d": "', "-----BEGIN PRIVATE KEY-----", '{\\"']), st.text())
def test_a_pasted_text_is_never_quoted(begin: str, end: str) -> None:
    """A word within what was pasted is in no error, nor in anything that its chain holds."""
    assert "canary" not in said_by(_refusal(f"{begin}canary{end}"))


members = st.sampled_from(["kty", "n", "e", "d", "p", "q", "dp", "dq", "qi", "alg", "kid", "use", "oth", "crv", "x", "y"])
oddities = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.integers(), max_size=2)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["RSA 2048", "EC P-384"]), st.dictionaries(members, oddities, min_size=1, max_size=3))
def test_any_damage_to_a_jwk_is_a_key_or_a_config_error(kind: str, damage: dict[str, object]) -> None:
    """A JWK with any members replaced by anything gives a key or a RedoxConfigError, nothing else."""
    try:
        keys = parse_keys(json.dumps({**jwk(kind), **damage}))
    except RedoxConfigError:
        return
    assert all(isinstance(key, SigningKey) for key in keys)


@pytest.mark.parametrize("kind", KINDS)
def test_a_keys_repr_shows_algorithm_and_key_id_only(kind: str) -> None:
    """The repr of a key holds nothing of the key."""
    assert repr(signing_key(kind)) == f"LocalKey(algorithm='{signing_key(kind).algorithm}', kid='kid-1')"


def test_a_pickled_refusal_holds_no_part_of_the_key() -> None:
    """An error that crosses a process boundary takes nothing of the key along."""
    text = traditional("RSA 2048")[:900]
    pickled = pickle.dumps(_refusal(text))
    assert not [line for line in text.splitlines()[1:] if line.encode() in pickled]
