"""Every error that this package raises, as a tree.

    RedoxError
    ├── RedoxConfigError              the connection or an argument is wrong; names the field, never its value
    ├── RedoxTransportError           no answer, and nothing was sent, or the request could be repeated
    ├── RedoxProtocolError            an answer that is not what was promised: no access_token, not a Bundle, a loop
    │   └── RedoxSecurityError        refused: another origin, a redirect, plain http, no proof
    ├── RedoxResponseError            Redox answered with an error: status, issues, trace_id
    │   ├── RedoxAuthError            the key, the client or the token is refused
    │   ├── RedoxRateLimitError       429 until patience ran out; retry_after in seconds
    │   ├── RedoxServerError          5xx until patience ran out
    │   └── RedoxDestinationError     HTTP 200 that carries an error of the destination
    ├── RedoxIncompleteError          some of the many questions of a task failed; failed, total, url
    ├── RedoxEmptyResultError         nothing was found, and on_empty="fail" says that this is a failure
    ├── RedoxSupersededError          another try of this task took over; this one stopped
    ├── RedoxDeliveryError            Redox gave up on a message, or filtered it
    ├── RedoxAuditError               the record of a disclosure has to be written and cannot be
    └── RedoxAmbiguousOutcomeError    an unsafe request may or may not have been processed

Promises: no message holds a secret, a body or a patient; every error survives pickling; `retryable` says
whether trying the same thing again later can help.
"""

from __future__ import annotations


class RedoxError(Exception):
    """The root of the tree. Never raised itself.

    `may_have_arrived` says whether what was sent may have been processed all the same, as the outcome table has it.
    """

    retryable: bool = False
    may_have_arrived: bool = False


def words_of(error: Exception) -> str:
    """Return an error's message, with what was noted on its way, each a sentence of its own."""
    said, notes = str(error), getattr(error, "__notes__", ())
    end = "." if notes and not said.endswith((".", "!", "?")) else ""
    return " ".join((said + end, *notes))


class RedoxConfigError(RedoxError):
    """The connection or an argument is wrong. The message names the field and the cure, never the value."""


class RedoxTransportError(RedoxError):
    """No answer: nothing was sent, or the request could be repeated and was, until patience ran out.

    `sent` says whether a part of the request left this machine.
    """

    retryable = True
    sent: bool = False


class RedoxProtocolError(RedoxError):
    """An answer that is not what was promised."""

    retryable = True


class RedoxSecurityError(RedoxProtocolError):
    """Refused to go there, or to believe it: another origin, a redirect, plain http, an event without proof, a foreign file.

    Nothing was sent to that place.
    """

    retryable = False


class RedoxResponseError(RedoxError):
    """Redox answered with an error.

    :param status: the HTTP status, 0 when there was none.
    :param issues: one short text for each issue: codes, modules and field paths, no clinical content.
    :param trace_id: what Redox support asks for, from the answer's `Redox-Trace-Id`.
    """

    def __init__(self, message: str, *, status: int = 0, issues: tuple[str, ...] = (), trace_id: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.issues = issues
        self.trace_id = trace_id


class RedoxAuthError(RedoxResponseError):
    """The key, the client or the token is refused."""


class RedoxRateLimitError(RedoxResponseError):
    """429 until patience ran out.

    :param retry_after: seconds to wait as the server said, None when it said nothing.
    """

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        status: int = 429,
        issues: tuple[str, ...] = (),
        trace_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, status=status, issues=issues, trace_id=trace_id)
        self.retry_after = retry_after


class RedoxServerError(RedoxResponseError):
    """A 5xx, 408, 425, 460 or 499 until patience ran out; not 501 and 505."""

    retryable = True


class RedoxDestinationError(RedoxResponseError):
    """HTTP 200, and the answer carries an error of the destination.

    :param log_ids: the log IDs that the answer gave all the same: another destination of the message may have it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 200,
        issues: tuple[str, ...] = (),
        trace_id: str | None = None,
        log_ids: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, status=status, issues=issues, trace_id=trace_id)
        self.log_ids = log_ids


class RedoxIncompleteError(RedoxError):
    """Some of many searches, queries or documents failed; the others are kept for a next try. Retryable if one of them is.

    :param failed: how many.
    :param total: of how many.
    :param url: the list that says of each what became of it.
    """

    def __init__(self, message: str, *, failed: int = 0, total: int = 0, url: str | None = None) -> None:
        super().__init__(message)
        self.failed = failed
        self.total = total
        self.url = url


class RedoxEmptyResultError(RedoxError):
    """A search found nothing, and `on_empty="fail"` says that this is a failure. Later it may find something."""

    retryable = True


class RedoxSupersededError(RedoxError):
    """Another try of this task took over, as Airflow considered this one dead; this one stopped and changed nothing more."""

    retryable = True


class RedoxDeliveryError(RedoxError):
    """Redox gave up on a message, or filtered it."""


class RedoxAuditError(RedoxError):
    """The record of a disclosure has to be written and cannot be: nothing was sent, or no result is visible."""

    retryable = True


class RedoxAmbiguousOutcomeError(RedoxError):
    """An unsafe request may or may not have been processed. Sending it again may double it.

    :param status: the HTTP status, 0 when no answer came.
    :param trace_id: from the answer's `Redox-Trace-Id`, when one came.
    :param log_ids: the log IDs of an answer that has not one for each destination: some of them have the message.
    """

    may_have_arrived = True

    def __init__(self, message: str, *, status: int = 0, trace_id: str | None = None, log_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.trace_id = trace_id
        self.log_ids = log_ids
