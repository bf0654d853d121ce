"""One token for all who share a slot: who asks for the next one, who waits for it, and who goes on with the old one.

Airflow offers no lock and no compare-and-set, only values that are read and written. So the one who asks is elected by
time (Fischer's algorithm): write a claim, wait longer than anybody needs from reading to writing, read it again, and ask
only if the claim still stands. Whoever finds another's claim waits for the token it will bring.

A claim belongs to a term: the token that it is to replace. With the next token all claims of the term before are void, so
none has to be taken back, and no clock has to agree with another. Whoever waits judges by its own clock whether a claim has
stood too long, because its worker was killed; and nobody waits longer than `BOUND`. All of it is best effort: where a
claim cannot be written, everyone asks for itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_provider_redox.exceptions import RedoxError
from airflow_provider_redox.protocol.effects import Flow, Place, Recall, Remember, Tell, Wait
from airflow_provider_redox.protocol.exchange import Environment, mint
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from airflow_provider_redox.protocol.settings import Settings
from airflow_provider_redox.protocol.token import Claim, Held, Token

CAUTION = 4.0
"""A claim has to stand for so many times what it took to see that there was none and to write it."""

SHORTEST, LONGEST = 0.1, 5.0
"""Seconds: bounds of the time that a claim has to stand."""

LEASE = 15.0
"""Seconds that the elected one has to bring the token, before another may be elected."""

BOUND = 30.0
"""Seconds after which whoever waits for another asks for itself."""

SKEW = 60.0
"""Seconds by which the clocks of two workers may differ: a claim from further away is rubbish."""

LOOK_AGAIN = 5.0
"""Seconds until one who saw another renew the token looks for the new one."""

RELEASED = "released"
"""The term of a claim that counts in none."""

AT_ONCE = RetryPolicy(attempts=1)
"""While the old token serves, a failed renewal is left to the next one."""


def obtain(settings: Settings, refused: str | None, *, env: Environment) -> Flow[Token]:
    """Find a fresh token that is not the refused one: in memory, in what the workers share, or by a new assertion.

    A token that nears its end is renewed by one worker, and used by the others meanwhile.
    """
    held: Held | None = yield Recall(Place.MEMORY)
    own = held.token if held is not None and held.token.serves(env.now(), refused) else None
    if own is not None and held is not None and not held.is_due(env.now()):
        return own
    shared: Token | None = yield Recall(Place.SHARED)
    election = _Election(settings, refused, env, term=term_of(shared))
    usable = [token for token in (own, shared) if token is not None and token.serves(env.now(), refused)]
    if not usable:
        found = yield from election.awaited()
    else:
        found = yield from election.renewed(max(usable, key=lambda token: token.expires_at))
    yield Remember(Place.MEMORY, found)
    return found.token


def term_of(shared: Token | None) -> str:
    """Name the term in which this token lies in the shared place."""
    return "" if shared is None else f"{shared.issued_at:.6f} {shared.value[-8:]}"


@dataclass(frozen=True, slots=True)
class _Election:
    """One worker in one term.

    :param refused: the token that Redox refused.
    :param term: of the token that lay in the shared place.
    """

    settings: Settings
    refused: str | None
    env: Environment
    term: str

    def renewed(self, serving: Token) -> Flow[Held]:
        """Give a token while one serves: that one, unless it is due and this worker is the one to renew it."""
        kept = self._kept(serving)
        if not kept.is_due(self.env.now()):
            return kept
        if (yield from self._ahead(within=LEASE)) is None:
            try:
                return (yield from self._brought(replace(self.env, retry=AT_ONCE)))
            except RedoxError as error:  # the old token serves; once it does no longer, the error is everyone's
                yield Tell(f"The access token could not be renewed yet, the old one is used on. {error}")
        return Held(serving, self.env.now() + LOOK_AGAIN)

    def awaited(self) -> Flow[Held]:
        """Give a token while none serves: another's, which is waited for, or a new one."""
        began, over = self.env.monotonic(), ""
        while self.env.monotonic() - began < BOUND:
            claim = yield from self._ahead(within=SKEW, over=over)
            if claim is None:
                return (yield from self._brought_or_released())
            found = yield from self._followed(claim, began)
            if found is not None:
                return found
            over = claim.nonce
        return (yield from self._brought(self.env))

    def _ahead(self, *, within: float, over: str = "") -> Flow[Claim | None]:
        """Claim the renewal. Gives the claim that is ahead of ours, or None: ours stood, or none can be written.

        :param within: seconds for which another's claim counts.
        :param over: the nonce of a claim that counts no longer.
        """
        began = self.env.monotonic()
        found: Claim | None = yield Recall(Place.CLAIM)
        if found is not None and found.nonce != over and self._counts(found, within):
            return found
        own = Claim(self.env.new_jti(), self.term, self.env.now())
        if (yield Remember(Place.CLAIM, own)):
            took = self.env.monotonic() - began
            yield Wait(min(max(CAUTION * took, SHORTEST), LONGEST))
        found = yield Recall(Place.CLAIM)
        ahead = found is not None and found.nonce not in (own.nonce, over) and self._counts(found, within)
        return found if ahead else None

    def _counts(self, claim: Claim, within: float) -> bool:
        return claim.term == self.term and -SKEW < self.env.now() - claim.at < within

    def _followed(self, claim: Claim, began: float) -> Flow[Held | None]:
        """Wait for the token that a claim is to bring; None when it brought none, or another took its place."""
        since, pause = self.env.monotonic(), SHORTEST
        while self.env.monotonic() - since < LEASE and self.env.monotonic() - began < BOUND:
            yield Wait(pause * (1 + self.env.jitter()))
            pause = min(2 * pause, 1.0)
            shared: Token | None = yield Recall(Place.SHARED)
            if shared is not None and shared.serves(self.env.now(), self.refused):
                return self._kept(shared)
            found: Claim | None = yield Recall(Place.CLAIM)
            if found is None or (found.nonce, found.term) != (claim.nonce, claim.term):
                return None
        return None

    def _brought_or_released(self) -> Flow[Held]:
        """Bring the new token; if that fails, do not have the others wait for it."""
        try:
            return (yield from self._brought(self.env))
        except RedoxError:
            yield Remember(Place.CLAIM, Claim(self.env.new_jti(), RELEASED, self.env.now()))
            raise

    def _brought(self, env: Environment) -> Flow[Held]:
        """Ask for a new token and share it, unless another did meanwhile (a claim may have been written late)."""
        shared: Token | None = yield Recall(Place.SHARED)
        if shared is not None and term_of(shared) != self.term and shared.serves(env.now(), self.refused):
            return self._kept(shared)
        token = yield from mint(self.settings, env=env)
        yield Remember(Place.SHARED, token)
        return self._kept(token)

    def _kept(self, token: Token) -> Held:
        return Held(token, token.renewal(self.env.place))
