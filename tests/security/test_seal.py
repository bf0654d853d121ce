"""The seal by known answers: what was sealed stays readable by every later version, and by nobody else.

Its properties (no two alike, each bit that is changed, each length) are in tests/token_cache/test_seal.py.
"""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_provider_redox.protocol.keys import LocalKey
from airflow_provider_redox.protocol.token import Claim, Token
from airflow_provider_redox.seal import Seal, keyed_hash
from airflow_provider_redox.token_cache.seal import EntrySeal
from airflow_provider_redox.token_cache.variable import VariableSlot

SCALAR = int.from_bytes(b"a private key that is known to everybody who looks"[:47])
KEY = LocalKey(ec.derive_private_key(SCALAR, ec.SECP384R1()), "ES384", "kid-1")
NEXT_KEY = LocalKey(ec.derive_private_key(SCALAR + 1, ec.SECP384R1()), "ES384", "kid-1")
SEALED = "v1.AAECAwQFBgcICQoLAnKPGlThQAPabKVgb56BUDxSfjZlrc02TQZK_yyU"
"""`what is sealed`, for the purpose `token cache`, bound to `f1ngerprint`, with the nonce 00 01 … 0b."""


def test_what_an_earlier_version_sealed_opens() -> None:
    """The construction is fixed: this entry opens for as long as it is called v1."""
    assert Seal(KEY, purpose="token cache", bound_to="f1ngerprint").open(SEALED) == b"what is sealed"


def test_what_an_earlier_version_hashed_is_known_again() -> None:
    """The keyed hash of a payload, by which a later try knows what an earlier one sent, is fixed too."""
    assert keyed_hash(KEY, purpose="payload", content=b"what is hashed") == "bc0a2a9e4fdd58ee3b1eec04aa224adb"


@pytest.mark.parametrize(
    "seal",
    [
        Seal(KEY, purpose="checkpoint", bound_to="f1ngerprint"),
        Seal(KEY, purpose="token cache", bound_to="another"),
        Seal(KEY, purpose="token cachef1ngerprint", bound_to=""),
        Seal(
            LocalKey(ec.derive_private_key(SCALAR + 1, ec.SECP384R1()), "ES384"),
            purpose="token cache",
            bound_to="f1ngerprint",
        ),
    ],
    ids=["another purpose", "another connection", "the same letters elsewhere", "the next key"],
)
def test_nothing_else_opens_it(seal: Seal) -> None:
    """Another purpose, another connection and another key open nothing."""
    assert seal.open(SEALED) is None


def test_a_part_of_an_entry_is_none() -> None:
    """Nonce, ciphertext and tag belong together: neither a shorter nor a recombined entry opens."""
    seal = Seal(KEY, purpose="token cache", bound_to="f1ngerprint")
    one, other = (base64.urlsafe_b64decode(text.removeprefix("v1.")) for text in (SEALED, seal.close(b"something else")))
    for mixed in (one[:12] + other[12:], other[:12] + one[12:], one[:-16] + other[-16:], one[:-1], one[:12], b""):
        assert seal.open(f"v1.{base64.urlsafe_b64encode(mixed).decode()}") is None


def test_an_entry_of_another_kind_is_none() -> None:
    """A claim that was put in the place of a token, or under its name, is no token."""
    tokens, claims = EntrySeal(KEY, "f1ngerprint", Token), EntrySeal(KEY, "f1ngerprint", Claim)
    assert tokens.open(tokens.close(Token("value", 1.0, 2.0))) == Token("value", 1.0, 2.0)
    assert claims.open(tokens.close(Token("value", 1.0, 2.0))) is None
    assert tokens.name != claims.name


@pytest.mark.parametrize("lying", ["", "v1.", "v1.AAAA", SEALED, "v2." + SEALED[3:], "{}", "\ud800", "x" * 1_000_000])
def test_what_is_refused_is_replaced(lying: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot that holds anything else is empty, and the next token that is saved is found there."""
    from airflow.providers.common.compat.sdk import Variable

    held = {"redox_cache__f1ngerprint": lying}
    monkeypatch.setattr(Variable, "get", lambda name, *_: held.get(name))
    monkeypatch.setattr(Variable, "set", lambda name, value, **_: held.update({name: value}))
    slot = VariableSlot(EntrySeal(KEY, "f1ngerprint", Token))
    assert slot.load() is None
    slot.save(Token("value", 1.0, 2.0))
    assert slot.load() == Token("value", 1.0, 2.0)
