"""One Data Model message of a task: made ready whole, then sent at most once, here and by all who share a ledger."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_redox.checks import given
from airflow_provider_redox.exceptions import RedoxAuthError, RedoxConfigError, RedoxError
from airflow_provider_redox.operators.sends.claiming import Claim, content_of, digests_of
from airflow_provider_redox.operators.sends.sending import Outcome, Sending, Sent, Subject, is_first_try, was_tried
from airflow_provider_redox.protocol import datamodels
from airflow_provider_redox.protocol.accounted import of_message
from airflow_provider_redox.protocol.data_model import Accepted, addressee, encode
from airflow_provider_redox.protocol.delivery import SHOWN
from airflow_provider_redox.protocol.effects import Flow
from airflow_provider_redox.protocol.pointers import find
from airflow_provider_redox.protocol.uploads import replace_uploads, uploads_in, with_uris, without_uploads
from airflow_provider_redox.seal import keyed_hash
from airflow_provider_redox.storage.inputs import file_to_upload
from airflow_provider_redox.storage.send_ledger import SendLedger
from airflow_provider_redox.storage.send_marker import marker_of
from airflow_provider_redox.storage.send_record import SendRecord, outcome_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_redox.client.sync import SyncClient
    from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
    from airflow_provider_redox.operators.sends.reconciling import Known, Reconciler

_log = logging.getLogger(__name__)


class Poster:
    """What the messages of one task have in common. Raises `RedoxConfigError` for what cannot be right."""

    def __init__(self, operator: RedoxDataModelPostOperator, ti: Any) -> None:
        self.operator = operator
        self.client = operator.hook.client
        self.by = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}"
        self.again = True if operator.on_ambiguous == "resend" else None
        self._platform = _platform(operator)
        self._ledger = None if operator.ledger_path is None else _ledger(operator.ledger_path)

    def completed(self, payload: Mapping[str, Any], begun: float) -> dict[str, Any]:
        """Fill in what the message's Meta lacks, with the time at which it was begun, on a copy."""
        operator = self.operator
        return self.client.calls.complete_message(
            payload,
            destination=operator.destination,
            destinations=cast("Sequence[str] | None", operator.destinations),  # rendered by now
            environment=operator.environment,
            now=begun,
            meta=operator.meta,
        )

    def subject(self, message: Mapping[str, Any], payload: bytes) -> Subject:
        """Name what is sent. Its hash is of the author's message and of where it goes: elsewhere it is another one."""
        meta = message["Meta"]
        places = tuple(str(place.get("ID")) for place in meta["Destinations"] if isinstance(place, Mapping))
        content = b"\0".join([payload, *sorted(place.encode() for place in places)])
        digest = keyed_hash(self.client.settings.key, purpose="payload", content=content)
        return Subject(f"{meta['DataModel']} {meta['EventType']}", places, digest)

    def search(
        self, payload: Mapping[str, Any], meta: Mapping[str, Any], subject: Subject, known: Known | None = None
    ) -> Reconciler | None:
        """Make what reconciles, before anything is sent: what it needs may be missing."""
        if self._platform is None:
            return None
        from airflow_provider_redox.operators.sends.reconciling import Reconciler

        pointer, category = self.operator.correlation_key, self.operator.correlation_category
        term = None if pointer is None else find(payload, pointer, where="correlation_key")
        return Reconciler(self._platform, meta["DataModel"], meta["EventType"], subject.destinations, term, category, known)

    def claim(
        self, payload: Mapping[str, Any], message: Mapping[str, Any], subject: Subject, *, within: str = "", number: int = 0
    ) -> Claim | None:
        """Find the place of the message's key in the ledger.

        :param message: the payload, completed.
        :param within: the name of a batch; `number` identifies the message in it.
        """
        if self._ledger is None or self.operator.idempotency_key is None:
            return None
        key, meta = find(payload, self.operator.idempotency_key, where="idempotency_key"), message["Meta"]
        places = sorted(place.strip().lower() for place in subject.destinations)
        url = self._ledger.url_of(meta["DataModel"].replace(" ", ""), meta["EventType"], *places, key)
        files = uploads_in(payload)
        whole = self.completed(with_uris(payload, digests_of(files)), 0.0) if files else message
        own = f"{self.by}#{within}." if within else ""
        by = f"{own}{number}" if own else self.by
        return Claim(self._ledger, url, by, self._ledger.hash_of(content_of(whole)), own)

    def upload(self, path: str) -> str:
        """Upload one of a message's files."""
        try:  # a second copy that no message names does no harm
            return self.operator.hook.upload(path, idempotent=True)
        except RedoxError as error:
            error.add_note("This was an upload of one of the message's files; the message itself was not sent.")
            raise


@dataclass(slots=True)
class Posting:
    """A message that is ready to be sent.

    :param resend: whether to send what the ledger says was sent.
    :param holds: whether this task instance has taken its key, now or in an earlier try.
    """

    sending: Sending
    claim: Claim | None = None
    resend: bool = False
    holds: bool = False

    @classmethod
    def prepare(cls, operator: RedoxDataModelPostOperator, context: Context, payload: Mapping[str, Any]) -> Posting:
        """Check all that can be checked before anything is sent. Raises `RedoxConfigError`."""
        poster, ti = Poster(operator, context["ti"]), context["ti"]
        client, calls, checked = poster.client, poster.client.calls, without_uploads(payload)

        def send(begun: float) -> Flow[Sent]:
            for path, place in uploads_in(payload).items():  # all are there before the first is uploaded
                file_to_upload(path, where=f"payload: {place}")
            whole = poster.completed(replace_uploads(payload, poster.upload), begun)
            return sent(calls.post_message(whole, operator.headers, repeatable=poster.again))

        message = poster.completed(checked, client.env.now())
        datamodels.check(message, operator.validate)
        calls.prepared_message(message, operator.headers)  # encodes it: too large or not JSON is said now
        named = with_uris(payload, {path: path for path in uploads_in(payload)})  # a URI is another at each try
        meta, subject = message["Meta"], poster.subject(message, encode(named))
        layout = operator.layout(context, operator.results_path, addressee(message), argument="results_path")
        record = SendRecord(
            layout,
            layout.result("DataModelPost", 0),
            known={"data_model": meta["DataModel"], "event_type": meta["EventType"]},
            marker=marker_of(ti),
            again=was_tried(ti),
        )
        resend = operator.resend and is_first_try(ti, operator.retries or 0)
        search = poster.search(payload, meta, subject)
        disclosure = of_message(message, client.settings.base_url)
        sending = Sending(client, subject, record, send, operator.on_ambiguous, resend, search, disclosure)
        return cls(sending, poster.claim(payload, message, subject), resend)

    def run(self) -> Outcome:
        """Send, or find that it was sent. Raises as `Sending.run` does."""
        elsewhere = self._sent_elsewhere()
        if elsewhere is not None:
            return elsewhere
        try:
            outcome = self.sending.run()
        except Exception:
            self._give_up()
            raise
        self._keep(outcome)
        return outcome

    def _sent_elsewhere(self) -> Outcome | None:
        """Take the key in the ledger. Gives what another task has sent; None when it is for this one to send."""
        if self.claim is None:
            return None
        claim = self.claim
        entry = claim.ledger.claim(claim.url, claim.by, claim.digest)
        self.holds = entry is None or (entry.by == claim.by and entry.status != "accepted")
        if entry is None or self.holds:
            return None
        ours = bool(claim.own) and claim.own in entry.by  # a batch sends no key twice, whatever it may resend
        if self.resend and not ours:
            claim.ledger.join(claim.url, entry, claim.by)
            return None
        claim.check_same(entry)
        if entry.status == "accepted":
            level = logging.DEBUG if claim.own else logging.WARNING  # a batch counts them
            _log.log(level, "The ledger says that %s has sent a message with this key; it is not sent again.", entry.by)
            return Outcome(tuple(entry.log_ids), None, claim.url, by_this_try=False)
        if self.sending.on_ambiguous == "resend":
            claim.ledger.join(claim.url, entry, claim.by)
            return None
        raise claim.taken_by(entry)

    def _keep(self, outcome: Outcome) -> None:
        """Say in the ledger that Redox has it. Storage that fails does not unsend it: the key stays taken."""
        if self.claim is None:
            return
        try:
            self.claim.ledger.accepted(self.claim.url, self.claim.by, self.claim.digest, outcome.log_ids)
        except Exception:  # noqa: BLE001  (each store has errors of its own)
            _log.exception("The message was accepted, log IDs %s, but the ledger could not be told.", outcome.log_ids)

    def _give_up(self) -> None:
        """Give the key back when the message did not arrive, and it is ours to give. Never hides the error."""
        if self.claim is None or not self.holds or self.sending.doubt:
            return
        try:
            if self.sending.record.is_overtaken:  # the key is the later try's, which has the same name
                return
            self.claim.ledger.release(self.claim.url)
        except Exception:  # noqa: BLE001  (each store has errors of its own)
            _log.exception("The key of this message could not be given back: remove %s.", self.claim.url)

    def was_refused(self, error: RedoxError) -> bool:
        """Say whether Redox refused the message: not the key, and not because it was busy."""
        of_the_message = getattr(error, "status", 0) > 0 and not (error.retryable or isinstance(error, RedoxAuthError))
        return of_the_message and outcome_of(error) == "refused" and not self.sending.doubt

    @property
    def refused_summary(self) -> dict[str, Any]:
        """What XCom holds of a message that was refused."""
        return {"accepted": 0, "refused": 1, "ambiguous": 0, "log_ids": [], "results_url": self.sending.record.url}

    @staticmethod
    def summary(outcome: Outcome) -> dict[str, Any]:
        """Give what XCom holds of a message that Redox has."""
        log_ids = list(outcome.log_ids[:SHOWN])
        _log.info("Redox accepted the message, log IDs %s.", ", ".join(log_ids) or "none given")
        told = {"accepted": 1, "refused": 0, "ambiguous": 0, "log_ids": log_ids, "results_url": outcome.results_url}
        return told if outcome.by_this_try else {**told, "already_sent": 1}


def sent(flow: Flow[Accepted]) -> Flow[Sent]:
    """Pass a flow on, and say what its answer says."""
    accepted = yield from flow
    return Sent(accepted.log_ids, accepted.trace_id)


def _platform(operator: RedoxDataModelPostOperator) -> SyncClient | None:
    """Make the client that reconciles."""
    if operator.on_ambiguous != "reconcile":
        return None
    from airflow_provider_redox.hooks.redox import RedoxHook

    conn_id = given(operator.platform_conn_id, operator.hook.client.settings.platform_conn_id, name="platform_conn_id")
    if conn_id is None:
        raise RedoxConfigError(
            "platform_conn_id: missing; name the connection of the Platform API, which on_ambiguous='reconcile' asks"
        )
    client = RedoxHook(conn_id).client
    if not client.settings.environment_id:
        raise RedoxConfigError(f"extra.environment_id: missing in the connection {conn_id}; the log search needs it")
    return client


def _ledger(path: str) -> SendLedger:
    from airflow_provider_redox.storage.layout import checked_root

    return SendLedger(checked_root(path, name="ledger_path"))
