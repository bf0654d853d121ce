"""What the probe asks, and what this package assumes of each answer. The report tells the questions in this order."""

from __future__ import annotations

from airflow_provider_redox.cli.probe.findings import Question
from airflow_provider_redox.protocol.failures import CLOCK_TOLERANCE

DOCUMENTED_LIFETIME = 300
"""Seconds (Redox, authenticate with JWT)."""

AHEAD = 60
"""Seconds by which the `iat` of one assertion lies in the future."""

SIGN_IN = Question(
    "sign-in",
    "Does the token endpoint take an assertion as the provider makes it?",
    "Yes, with 200",
)
CLOCK = Question(
    "clock",
    "By how many seconds is the server's clock ahead of this machine's?",
    f"By no more than {CLOCK_TOLERANCE:.0f}, either way",
)
ANSWER = Question(
    "token-answer",
    "Which keys has the answer, and which type the token?",
    "access_token, a token_type of Bearer, and expires_in as a number",
)
LIFETIME = Question(
    "token-lifetime",
    "How many seconds does a token hold, as the answer says?",
    f"{DOCUMENTED_LIFETIME}, as documented; the provider goes by what the answer says",
)
REPLAYED = Question(
    "assertion-replayed",
    "Is the same assertion refused when it comes a second time?",
    "Nothing depends on it: each request has an assertion with a jti of its own",
)
WITHOUT_EXP = Question(
    "assertion-without-exp",
    "Is an assertion without exp refused?",
    "Nothing depends on it: the provider always sends exp",
)
IN_FUTURE = Question(
    "assertion-ahead",
    f"Is an assertion refused whose iat lies {AHEAD} s in the future?",
    "Yes, only a few seconds are tolerated; this is why the provider dates iat back",
)
ES384 = Question(
    "assertion-es384",
    "Is an assertion accepted that is signed with ES384?",
    "Yes, with a key on the curve P-384",
)
ERROR = Question(
    "token-error",
    "How does the token endpoint refuse an assertion with a wrong signature?",
    "With 400 or 401 and a JSON object that has error (RFC 6749 section 5.2)",
)
BY_POST = Question(
    "search-by-post",
    "Is a search answered that is sent by POST to _search, its parameters in the body?",
    "Yes, with 200 and a Bundle of type searchset",
)
PATIENT = Question(
    "test-patient",
    "How many patients does the search for the test patient find?",
    "One; the questions about pages need it",
)
SELF_LINK = Question(
    "self-link",
    "Has the page a self link, of which form, and which parameters does it name?",
    "Nothing depends on it: the provider does not read it",
)
ADDRESSES = Question(
    "entry-addresses",
    "Of which form is an entry's fullUrl, and has an entry a search mode?",
    "Nothing depends on it: resources are told apart by type, id and version",
)
PAGE_SIZE = Question(
    "page-size",
    "Does a page hold as many matches as _count asks for?",
    "Yes, or fewer",
)
TOTAL = Question(
    "total",
    "Does a page tell the total, and is it more than the page holds when a page follows?",
    "Yes, or there is none: the provider compares it with what it read",
)
NEXT_LINK = Question(
    "next-link",
    "Of which form is the next link, whose origin is it on, and which parameters does it name?",
    "Absolute or relative, on the connection's own origin and below the destination's base; no other is followed",
)
NEXT_BY_GET = Question(
    "next-by-get",
    "Is the next page given when its link is asked for by GET?",
    "Yes; or it is refused with 403, 404 or 405, and POST to _search is tried",
)
NEXT_BY_POST = Question(
    "next-by-post",
    "Is the next page given by POST to _search, with the link's parameters in the body?",
    "Where GET is refused, yes",
)
NEXT_PAGE = Question(
    "next-page",
    "Does the next page bring other resources, and does it lead on to another page than itself?",
    "Yes, both",
)
EMPTY = Question(
    "empty-result",
    "How is a search answered that finds nothing?",
    "With 200 and a Bundle without entries",
)
PARAMETER = Question(
    "unknown-parameter",
    "Is a search parameter refused that nobody knows?",
    "Yes, with 4xx: a filter that is ignored would give too much",
)
SINCE = Question(
    "last-updated",
    "Is a search by _lastUpdated taken?",
    "Yes; searches by window need it, and the destination decides",
)
UNKNOWN = Question(
    "unknown-id",
    "How is the read of an ID answered that nobody has?",
    "With 404 or 410",
)
CASE = Question(
    "environment-in-lower-case",
    "Is the environment refused when it is written in lower case?",
    "Yes: upper and lower case matter",
)
OTHER = Question(
    "other-environment",
    "How is a search answered in an environment to which the key does not belong?",
    "Nothing depends on it: the environment is the author's to name",
)
TOKEN = Question(
    "refused-token",
    "How is a token refused that is none?",
    "With 401; the provider then gets another one, once",
)
BY_GET = Question(
    "search-by-get",
    "Is a search answered that is sent by GET, its parameters in the URL?",
    "Nothing depends on it: the provider does not send any",
)
METADATA = Question(
    "metadata",
    "Is there a CapabilityStatement at /metadata?",
    "Nothing depends on it: the provider does not ask for it",
)
HEADERS = Question(
    "response-headers",
    "Which headers have the answers of the FHIR API, and what do those say that tell of limits?",
    "Redox-Trace-Id is among them; support asks for it",
)
COMPRESSION = Question(
    "compression",
    "Are answers compressed with gzip, which every request allows?",
    "Nothing depends on it: the provider undoes it, within bounds",
)
VERSION = Question(
    "http-version",
    "Which version of HTTP do the answers speak?",
    "HTTP/1.1, the only one that the provider speaks",
)

ALL = tuple(found for found in tuple(vars().values()) if isinstance(found, Question))
