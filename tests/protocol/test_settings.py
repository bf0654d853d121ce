"""A connection is checked before any request; every complaint names the field and none shows its value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.keys import SigningKey, parse_keys
from airflow_provider_redox.protocol.settings import EXTRA_FIELDS, Settings, checked_headers, is_loopback

from .flows import complaint, said_by
from .material import CLIENT_ID, jwk, pkcs8, settings, signing_key, traditional

NEEDED = {"client_id": CLIENT_ID, "kid": "kid-1"}


def refusal(
    *, keys: tuple[SigningKey, ...] | None = None, host: Any = None, port: Any = None, login: Any = None, **extra: Any
) -> RedoxConfigError:
    with pytest.raises(RedoxConfigError) as raised:
        Settings.from_fields(
            keys=keys or (signing_key(kid=None),), host=host, port=port, login=login, extra={**NEEDED, **extra}
        )
    return raised.value


# ── what is needed and what follows ──


def test_a_client_id_and_a_key_id_are_enough() -> None:
    """With client ID, key ID and key the rest follows: Redox's host, its token URL as audience, and the defaults."""
    made = settings()
    assert (made.base_url, made.auth_url) == ("https://api.redoxengine.com", "https://api.redoxengine.com/v2/auth/token")
    assert made.audience == made.auth_url
    assert (made.client_id, made.kid, made.algorithm) == (CLIENT_ID, "kid-1", "RS384")
    assert (made.scope, made.destination, made.environment, made.source_id) == (None, None, None, None)
    assert (made.cache_backend, made.timeout, made.requests_per_5min) == ("variable", 130.0, 5000)
    assert made.plain_http_allowed is False


def test_a_connection_without_a_client_id_is_refused() -> None:
    """The client ID is named where it is missing."""
    assert str(refusal(client_id=None)).startswith("extra.client_id: missing")


def test_a_connection_without_a_key_id_is_refused() -> None:
    """A key without a key ID is refused before any request."""
    assert str(refusal(kid=" ")).startswith("extra.kid: missing")


def test_a_jwk_brings_its_own_key_id() -> None:
    """The connection needs no key ID where the key has one."""
    keys = parse_keys(json.dumps(jwk("RSA 2048", kid="own")))
    assert Settings.from_fields(keys=keys, extra={"client_id": "c"}).kid == "own"


def test_an_algorithm_that_does_not_fit_is_refused() -> None:
    """ES384 with an RSA key is refused before any request."""
    assert str(refusal(algorithm="ES384")).startswith("extra.algorithm: ES384 does not fit the key")


def test_a_login_is_refused() -> None:
    """A login would make stock hooks send it with the key as Basic auth, so there is none."""
    error = refusal(login="s3cret")
    assert str(error).startswith("login: must be empty")
    assert "s3cret" not in said_by(error)


@pytest.mark.parametrize("empty", [None, ""])
@pytest.mark.parametrize("name", [name for name in EXTRA_FIELDS if name not in NEEDED])
def test_an_empty_field_is_as_if_it_were_not_there(name: str, empty: Any) -> None:
    """A form that stores empty texts means the defaults."""
    assert settings(**{name: empty}) == settings()


def test_spaces_around_a_text_are_dropped() -> None:
    """A client ID that was pasted with a newline is the client ID."""
    assert settings(client_id=f" {CLIENT_ID}\n").client_id == CLIENT_ID


# ── unknown fields ──


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("clientid", "client_id"),
        ("key_id", "key_file"),
        ("auth_uri", "auth_url"),
        ("Timeout", "timeout"),
        ("scopes", "scope"),
    ],
)
def test_an_unknown_field_is_refused_with_a_suggestion(name: str, meant: str) -> None:
    """A misspelt field would be ignored in silence, so it is refused, and the nearest known one named."""
    assert str(refusal(**{name: "x"})) == f"extra.{name}: no such field; did you mean {meant}?"


def test_a_field_like_none_is_refused_with_all_that_are_known() -> None:
    """Where nothing is near, all known fields are listed."""
    error = str(refusal(zzzzzz="x"))
    assert error.startswith("extra.zzzzzz: no such field; known are client_id, kid")
    assert all(name in error for name in EXTRA_FIELDS)


@pytest.mark.parametrize("name", ["-----BEGIN PRIVATE KEY-----", "a b", "x" * 41, "a\nb"])
def test_a_name_that_could_be_a_value_is_not_shown(name: str) -> None:
    """What was pasted where a name belongs is not repeated."""
    error = refusal(**{name: "x"})
    assert str(error).startswith("extra.(unprintable): no such field")
    assert name not in said_by(error)


# ── hosts ──


@pytest.mark.parametrize(
    ("host", "port", "base_url"),
    [
        (None, None, "https://api.redoxengine.com"),
        ("", 0, "https://api.redoxengine.com"),
        ("api.ca.redoxengine.com", None, "https://api.ca.redoxengine.com"),
        ("https://api.redoxengine.com/", None, "https://api.redoxengine.com"),
        (" https://api.redoxengine.com ", None, "https://api.redoxengine.com"),
        ("HTTPS://API.Redoxengine.com", None, "https://api.redoxengine.com"),
        ("https://api.redoxengine.com:443", None, "https://api.redoxengine.com"),
        ("api.redoxengine.com", 443, "https://api.redoxengine.com"),
        ("api.redoxengine.com", 8443, "https://api.redoxengine.com:8443"),
        ("api.redoxengine.com:8443", None, "https://api.redoxengine.com:8443"),
        ("api.redoxengine.com:8443", 8443, "https://api.redoxengine.com:8443"),
        ("https://gateway.example/redox/", None, "https://gateway.example/redox"),
        ("http://localhost:8089", None, "http://localhost:8089"),
        ("http://localhost", 8089, "http://localhost:8089"),
        ("http://localhost:80", None, "http://localhost"),
        ("http://127.0.0.1:8089", None, "http://127.0.0.1:8089"),
        ("http://127.9.9.9", None, "http://127.9.9.9"),
        ("http://[::1]:8089", None, "http://[::1]:8089"),
        ("https://[2001:db8::1]", None, "https://[2001:db8::1]"),
    ],
)
def test_a_host_is_written_in_many_ways(host: str | None, port: int | None, base_url: str) -> None:
    """Scheme, port and a path are optional, the default port and a final slash are dropped."""
    made = settings(host=host, port=port)
    assert (made.base_url, made.auth_url) == (base_url, f"{base_url}/v2/auth/token")


@pytest.mark.parametrize(
    "host",
    [
        "https://",
        " ",
        "ftp://api.redoxengine.com",
        "https://user@api.redoxengine.com",
        "https://user:canary@api.redoxengine.com",
        "https://api.redoxengine.com?canary=1",
        "https://api.redoxengine.com#canary",
        "https://api.redox engine.com",
        "https://api.redoxengine.com\\canary",
        "https://api.redoxengine.com\ncanary",
        "https://api.redoxengine.com:canary",
        "https://api.redoxengine.com:99999",
        "https://[canary",
        "::1",
        "javascript:canary",
        "//api.redoxengine.com",
    ],
)
def test_a_host_that_is_no_plain_url_is_refused(host: str) -> None:
    """User names, queries, fragments, spaces, backslashes and odd ports are refused without being shown."""
    error = refusal(host=host)
    assert str(error).startswith("host: not a ")
    assert "canary" not in said_by(error)


@pytest.mark.parametrize(
    "host",
    [
        "http://api.redoxengine.com",
        "http://10.0.0.1",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://[::2]",
    ],
)
def test_plain_http_is_for_this_machine_only(host: str) -> None:
    """A token goes over plain http to no other machine, unless the connection says so."""
    assert str(refusal(host=host)).startswith("host: must begin with https://")
    assert settings(host=host, allow_http=True).plain_http_allowed


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("127.0.0.1", True),
        ("[::1]", True),
        ("::1", True),
        ("localhost.example", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("", False),
        ("127.1.example", False),
    ],
)
def test_loopback_is_what_can_only_be_this_machine(host: str, loopback: bool) -> None:  # noqa: FBT001
    """Localhost and the loopback addresses are this machine, and no name that looks like them is."""
    assert is_loopback(host) is loopback


def test_two_ports_are_refused() -> None:
    """A port in the host and another in its own field contradict each other."""
    assert str(refusal(host="localhost:8089", port=8090)) == "port: differs from the port in host; leave one of them empty"


@pytest.mark.parametrize("port", [-1, 65536, 10**6])
def test_a_port_that_is_none_is_refused_as_the_port(port: int) -> None:
    """The complaint about a port names the field port."""
    assert str(refusal(port=port)).startswith("port: must be a number")


@pytest.mark.parametrize("value", [True, "true", "True", "TRUE"])
def test_a_flag_is_true_as_json_or_text(value: Any) -> None:
    """A form stores flags as JSON or as text."""
    assert settings(allow_http=value).plain_http_allowed is True


@pytest.mark.parametrize("value", [1, 0, "yes", "1", [], {}])
def test_a_flag_that_is_neither_is_refused(value: Any) -> None:
    """What is not plainly true or false is refused."""
    assert str(refusal(allow_http=value)) == "extra.allow_http: must be true or false"


# ── the token endpoint ──


@pytest.mark.parametrize(
    "auth_url",
    [
        "https://api.redoxengine.com/other/token",
        "https://API.redoxengine.com/v2/auth/token",
        "https://api.redoxengine.com:443/token",
    ],
)
def test_the_token_endpoint_may_be_elsewhere_on_the_same_origin(auth_url: str) -> None:
    """Another path on the host's own origin is taken as it is, and is the audience."""
    made = settings(auth_url=auth_url)
    assert (made.auth_url, made.audience) == (auth_url, auth_url)


@pytest.mark.parametrize(
    "auth_url",
    [
        "https://evil.example/v2/auth/token",
        "https://api.redoxengine.com:8443/v2/auth/token",
        "https://api.redoxengine.com:0/v2/auth/token",
        "http://api.redoxengine.com/v2/auth/token",
        "https://api.redoxengine.com.evil.example/v2/auth/token",
        "https://api.redoxengine.com@evil.example/v2/auth/token",
        "https://user@api.redoxengine.com/v2/auth/token",
        "https://api.redoxengine.com/token?x=1",
        "https://api.redoxengine.com/token#x",
        "/v2/auth/token",
        "https://evil.example\\@api.redoxengine.com/",
        "https://[evil",
    ],
)
def test_an_assertion_is_sent_nowhere_else(auth_url: str) -> None:
    """A token endpoint on another origin is refused, though an editor of the connection wants it."""
    error = refusal(auth_url=auth_url)
    assert str(error).startswith("extra.auth_url: ")
    assert "evil" not in said_by(error)


def test_the_audience_may_be_another() -> None:
    """A server that wants its issuer as audience gets it; the request goes to the token endpoint."""
    made = settings(audience="https://issuer.example")
    assert (made.audience, made.auth_url) == ("https://issuer.example", "https://api.redoxengine.com/v2/auth/token")


# ── each field ──

TEXTS = [
    "client_id",
    "kid",
    "algorithm",
    "auth_url",
    "blob_url",
    "audience",
    "scope",
    "destination",
    "source_id",
    "organization_id",
]
TEXTS += ["environment_id", "environment", "ca_file", "cache_backend"]


@pytest.mark.parametrize("value", [["x"], {"x": 1}, True, 1.5])
@pytest.mark.parametrize("name", TEXTS)
def test_a_text_field_is_text(name: str, value: Any) -> None:
    """A list, an object or a flag where text belongs is refused by the field's name."""
    assert str(refusal(**{name: value})).startswith(f"extra.{name}: must be text")


def test_a_number_is_a_text() -> None:
    """An ID that a form stored as a number is that ID."""
    assert settings(organization_id=12345).organization_id == "12345"


@pytest.mark.parametrize("value", ["production", "Prod", "Development ,"])
def test_an_environment_is_one_of_three(value: str) -> None:
    """The environment is written as Redox writes it."""
    assert str(refusal(environment=value)).startswith("extra.environment: must be one of Development, Staging, Production")


@pytest.mark.parametrize("value", ["redis", "Variable"])
def test_a_cache_backend_is_one_of_three(value: str) -> None:
    """Tokens lie in a Variable, in XCom or in memory."""
    assert str(refusal(cache_backend=value)).startswith("extra.cache_backend: must be one of variable, xcom, memory")


@pytest.mark.parametrize(
    ("name", "low", "high"), [("timeout", 1, 3600), ("requests_per_5min", 2, 10_000)], ids=["timeout", "requests_per_5min"]
)
def test_a_number_has_bounds(name: str, low: int, high: int) -> None:
    """A number is taken from its lowest to its highest value, as a text too; outside it is refused."""
    for good in (low, high, str(high)):
        assert getattr(settings(**{name: good}), name) == float(good)
    for bad in (low - 1, high + 1, -1, "many", True, [], {}, float("nan"), float("inf"), "nan", 10**400):
        assert str(refusal(**{name: bad})).startswith(f"extra.{name}: must be a number from {low} to {high}")


@pytest.mark.parametrize("name", ["destinations", "headers", "meta"])
def test_an_object_may_come_as_text(name: str) -> None:
    """A form field holds JSON as text; it is the same as the object."""
    value = {"general": {"slug": "hospital"}} if name == "destinations" else {"x-name": "value"}
    assert settings(**{name: json.dumps(value)}) == settings(**{name: value})


@pytest.mark.parametrize("name", ["destinations", "headers", "meta"])
@pytest.mark.parametrize("value", ["canary", "{canary", "[" * 100_000, '{"a": canary}'])
def test_a_text_that_is_no_json_is_refused(name: str, value: str) -> None:
    """Broken JSON is refused by the field's name, and neither error nor chain holds it."""
    error = refusal(**{name: value})
    assert str(error) == f"extra.{name}: not valid JSON"
    assert "canary" not in said_by(error)


@pytest.mark.parametrize("name", ["destinations", "headers", "meta"])
@pytest.mark.parametrize("value", [["canary"], 7, True, '["canary"]', '"canary"', "7"])
def test_json_that_is_no_object_is_refused(name: str, value: Any) -> None:
    """A list or a number where an object belongs is refused."""
    error = refusal(**{name: value})
    assert str(error) == f"extra.{name}: must be a JSON object"
    assert "canary" not in said_by(error)


@pytest.mark.parametrize(
    "value", [["EHR.example", " other.example "], "EHR.example, other.example", "ehr.example,other.example,"]
)
def test_aliases_are_a_list_or_a_text_with_commas(value: Any) -> None:
    """Host names are compared in lower case."""
    assert settings(link_host_aliases=value).link_host_aliases == ("ehr.example", "other.example")


@pytest.mark.parametrize("value", [7, {"a": 1}, [7], ["ehr.example", None], True])
def test_aliases_that_are_no_list_are_refused(value: Any) -> None:
    """Something else than texts is no list of host names."""
    assert str(refusal(link_host_aliases=value)) == "extra.link_host_aliases: must be a list of host names"


@pytest.mark.parametrize(
    "value", ["https://ehr.example", "ehr.example:8443", "ehr.example/r4", "ehr example", "user@ehr.example"]
)
def test_an_alias_that_could_never_match_is_refused(value: str) -> None:
    """An alias is a host name: with a scheme, a port or a path it would be ignored in silence."""
    assert str(refusal(link_host_aliases=value)).startswith("extra.link_host_aliases: must be host names only")


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "ä", "a\x00b"])
def test_a_source_id_cannot_break_out_of_its_header(value: str) -> None:
    """The source ID is sent as a header, so it is one line of ASCII."""
    assert str(refusal(source_id=value)).startswith("extra.source_id: must be one line of printable ASCII")


# ── headers ──


def test_headers_come_back_in_lower_case() -> None:
    """Names of headers are compared without regard to case."""
    assert checked_headers({"X-Name": "Value\t1"}, where="headers") == {"x-name": "Value\t1"}


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "authorization",
        "HOST",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Cookie",
        "Accept-Encoding",
    ],
)
def test_the_providers_own_headers_cannot_be_set(name: str) -> None:
    """What decides where a request goes, who sends it and where it ends is not the author's."""
    with pytest.raises(RedoxConfigError, match=f"^extra.headers: {name} is set by the provider itself"):
        checked_headers({name: "canary"}, where="extra.headers")


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "ä", "a\n", 7, None, "(a)"])
def test_a_header_name_is_a_token(name: Any) -> None:
    """A name with a colon, a space or a line break is refused and not shown."""
    with pytest.raises(RedoxConfigError, match=r"^headers: a header name holds a character"):
        checked_headers({name: "x"}, where="headers")


@pytest.mark.parametrize("value", ["canary\r\nX-Evil: 1", "canary\n", "canäry", "canary\x00", 7, None, ["canary"]])
def test_a_header_value_is_one_line_of_ascii(value: Any) -> None:
    """A value cannot begin another header, and is not shown when it tries."""
    with pytest.raises(RedoxConfigError, match=r"^headers: the value of X must be one line") as raised:
        checked_headers({"X": value}, where="headers")
    assert "canary" not in said_by(raised.value)


# ── fingerprints ──


def test_a_fingerprint_is_the_same_for_two_encodings_of_a_key() -> None:
    """A JWK that brings its key ID and a PEM beside extra.kid are one connection."""
    one = Settings.from_fields(
        keys=parse_keys(json.dumps(jwk("RSA 2048", kid="kid-1", alg="RS384"))), extra={"client_id": "c"}
    )
    for pem in (pkcs8("RSA 2048"), traditional("RSA 2048").replace("\n", "\\n")):
        other = Settings.from_fields(keys=parse_keys(pem), extra={"client_id": "c", "kid": "kid-1"})
        assert one.fingerprint == other.fingerprint


def test_a_fingerprint_differs_with_whatever_makes_a_token_another() -> None:
    """Key, key ID, client, token URL, audience and scope each make another fingerprint."""
    made = [
        settings(),
        settings("RSA 3072"),
        settings("EC P-384"),
        settings(kid="kid-2"),
        settings(client_id="other"),
        settings(host="api.ca.redoxengine.com"),
        settings(host="api.ca.redoxengine.com", audience="https://api.redoxengine.com/v2/auth/token"),
        settings(auth_url="https://api.redoxengine.com/other"),
        settings(audience="https://issuer.example"),
        settings(scope="fhir:production"),
    ]
    assert len({one.fingerprint for one in made}) == len(made)


def test_a_fingerprint_does_not_confuse_neighbouring_fields() -> None:
    """The end of one field and the beginning of the next are not the same as another cut."""
    assert settings(audience="ab", scope="c").fingerprint != settings(audience="a", scope="bc").fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"timeout": 60},
        {"destination": "x"},
        {"environment": "Staging"},
        {"headers": {"x": "y"}},
        {"cache_backend": "memory"},
    ],
    ids=str,
)
def test_a_fingerprint_is_the_same_for_what_does_not_change_the_token(change: dict[str, Any]) -> None:
    """Connections that differ in how they are used share their token."""
    assert settings(**change).fingerprint == settings().fingerprint


def test_a_fingerprint_is_a_name() -> None:
    """A fingerprint is 32 hexadecimal digits, fit for a Variable's name."""
    assert len(settings().fingerprint) == 32
    assert int(settings().fingerprint, 16)


# ── nothing leaks ──


def test_a_connections_repr_shows_no_secret() -> None:
    """The repr of settings holds no number of the key, no header and no Meta."""
    made = settings(headers={"x-api-key": "canary"}, meta={"canary": "canary"})
    shown = repr(made)
    assert "canary" not in shown
    for number in (value for name, value in jwk("RSA 2048").items() if name in ("d", "p", "q", "dp", "dq", "qi")):
        assert number not in shown


texts = st.text(max_size=12).map(lambda text: f"canary{text}")
values = (
    texts | texts.map(lambda text: [text]) | texts.map(lambda text: {"x": text}) | texts.map(lambda text: json.dumps([text]))
)


@given(st.sampled_from(EXTRA_FIELDS), values)
@example("auth_url", "https://[canary")
@example("auth_url", "https://h:canary")
@example("headers", {"x": "canary\n"})
@example("headers", {"x": ["canary"]})
@example("destinations", {"x": "canary"})
@example("destinations", {"x": {"slug": "canary/"}})
@example("destinations", {"x": {"canary": 1}})
@example("destinations", {"x": {"ids": {"Results": "canary"}}})
@example("timeout", "canary")
def test_no_complaint_shows_a_value(name: str, value: Any) -> None:
    """Whatever is pasted into whichever field, a complaint about it, and its chain, does not hold it."""
    assert "canary" not in complaint(lambda: settings(**{name: value}))


@given(texts, st.none() | st.integers())
def test_no_complaint_shows_the_host(host: str, port: int | None) -> None:
    """Whatever is pasted as host or port, a complaint about it does not hold it."""
    assert "canary" not in complaint(lambda: settings(host=host, port=port))


@given(
    st.dictionaries(
        st.sampled_from(EXTRA_FIELDS),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
            max_leaves=4,
        ),
    )
)
def test_any_extra_is_a_connection_or_a_config_error(extra: dict[str, Any]) -> None:
    """Whatever JSON the extra of a connection holds, it is settings or a RedoxConfigError."""
    try:
        made = Settings.from_fields(keys=(signing_key(kid=None),), extra={**NEEDED, **extra})
    except RedoxConfigError:
        return
    assert len(made.fingerprint) == 32
