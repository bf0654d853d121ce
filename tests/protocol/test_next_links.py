"""Where a page's next link may lead: the connection's own origin, below the destination's own base. Nowhere else."""

from __future__ import annotations

import contextlib
import time
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxSecurityError
from airflow_provider_redox.protocol.fhir import Endpoint
from airflow_provider_redox.protocol.settings import origin

from .flows import said_by

HOST = "https://api.redoxengine.com"
PATH = "/fhir/R4/hospital/Production"
BASE = Endpoint(HOST, "hospital", "Production", aliases=("ehr.example",))

FOLLOWED = {
    "absolute": (f"{HOST}{PATH}/Patient?_page=2", f"{HOST}{PATH}/Patient?_page=2"),
    "with the default port": (f"{HOST}:443{PATH}/Patient?_page=2", f"{HOST}:443{PATH}/Patient?_page=2"),
    "host in capitals": (f"https://API.RedoxEngine.com{PATH}/Patient", f"https://API.RedoxEngine.com{PATH}/Patient"),
    "scheme in capitals": (f"HTTPS://api.redoxengine.com{PATH}/Patient", f"{HOST}{PATH}/Patient"),
    "relative": ("Patient?_page=2", f"{HOST}{PATH}/Patient?_page=2"),
    "relative to the host": (f"{PATH}/Patient?_page=2", f"{HOST}{PATH}/Patient?_page=2"),
    "without a scheme": (f"//api.redoxengine.com{PATH}/Patient", f"{HOST}{PATH}/Patient"),
    "a query only": ("?_getpages=abc&_offset=20", f"{HOST}{PATH}/?_getpages=abc&_offset=20"),
    "a space in the query": ("Patient?name=Ann Green&_page=2", f"{HOST}{PATH}/Patient?name=Ann%20Green&_page=2"),
    "another script in the query": ("Patient?name=Gr\u00fcn", f"{HOST}{PATH}/Patient?name=Gr%C3%BCn"),
    "a backslash in the query": ("Patient?name=a\\,b", f"{HOST}{PATH}/Patient?name=a%5C,b"),
    "a percent sign alone": ("Patient?name=100%&x=%2B", f"{HOST}{PATH}/Patient?name=100%25&x=%2B"),
    "brackets and bars": ("Patient?code=a|b[c]", f"{HOST}{PATH}/Patient?code=a|b[c]"),
    "a path of the server's own": ("/app/FHIR/r4/Condition/_search?_p=x", f"{HOST}{PATH}/Condition/_search?_p=x"),
    "a path without a destination": ("/fhir/R4/Patient?page=2", f"{HOST}{PATH}/Patient?page=2"),
    "the base itself": (f"{HOST}{PATH}?_getpages=abc", f"{HOST}{PATH}?_getpages=abc"),
    "dot segments that stay": ("./Patient/../Observation?_page=2", f"{HOST}{PATH}/Observation?_page=2"),
    "a colon in the query": (f"{HOST}{PATH}/Patient?_sort=a:b&u=http://x/y", f"{HOST}{PATH}/Patient?_sort=a:b&u=http://x/y"),
    "an address in the query": (
        "Patient?identifier=https://evil.example/..%2F",
        f"{HOST}{PATH}/Patient?identifier=https://evil.example/..%2F",
    ),
    "an empty fragment": (f"{HOST}{PATH}/Patient?_page=2#", f"{HOST}{PATH}/Patient?_page=2"),
    "an alias with our path": (f"https://ehr.example{PATH}/Patient?_page=2", f"{HOST}{PATH}/Patient?_page=2"),
    "an alias with its own path": ("https://ehr.example/api/FHIR/R4/Patient?_page=2", f"{HOST}{PATH}/Patient?_page=2"),
    "an alias with a search": ("https://ehr.example/r4/Patient/_search?c=1", f"{HOST}{PATH}/Patient/_search?c=1"),
    "an alias with an opaque path": ("https://ehr.example/r4/pages/17?c=1", f"{HOST}{PATH}?c=1"),
    "an alias with a long ID": (f"https://ehr.example/r4/Binary/{'e_:' * 30}", f"{HOST}{PATH}/Binary/{'e_:' * 30}"),
    "an alias with an ID like a type": ("https://ehr.example/r4/Binary/AbCd", f"{HOST}{PATH}/Binary/AbCd"),
    "an alias with a version": ("https://ehr.example/r4/Binary/1/_history/2", f"{HOST}{PATH}/Binary/1"),
    "an alias whose base is in capitals": ("https://ehr.example/FHIR/api?_page=2", f"{HOST}{PATH}?_page=2"),
    "an alias over plain http": ("http://ehr.example/r4/Patient?c=1", f"{HOST}{PATH}/Patient?c=1"),
    "an alias with a port": ("https://EHR.example:8443/r4/Patient?c=1", f"{HOST}{PATH}/Patient?c=1"),
    "an alias that climbs": ("https://ehr.example/r4/../../platform?c=1", f"{HOST}{PATH}?c=1"),
}


@pytest.mark.parametrize("what", FOLLOWED)
def test_a_link_onto_our_own_base_is_followed(what: str) -> None:
    """A link that leads below the destination's base, or names an alias, becomes absolute on our own host."""
    link, followed = FOLLOWED[what]
    assert BASE.follow(link) == followed


REFUSED = {
    "another host": f"https://evil.example{PATH}/Patient",
    "a subdomain": f"https://x.api.redoxengine.com{PATH}/Patient",
    "a host that begins like ours": f"https://api.redoxengine.com.evil.example{PATH}/Patient",
    "a host that ends like ours": f"https://evilapi.redoxengine.com{PATH}/Patient",
    "another port": f"https://api.redoxengine.com:8443{PATH}/Patient",
    "port zero": f"https://api.redoxengine.com:0{PATH}/Patient",
    "a port that is none": f"https://api.redoxengine.com:99999{PATH}/Patient",
    "a port of letters": f"https://api.redoxengine.com:https{PATH}/Patient",
    "plain http": f"http://api.redoxengine.com{PATH}/Patient",
    "plain http on port 443": f"http://api.redoxengine.com:443{PATH}/Patient",
    "another scheme": f"ftp://api.redoxengine.com{PATH}/Patient",
    "a file": "file:///etc/passwd",
    "a script": "javascript:alert(1)",
    "our host as user name": f"https://api.redoxengine.com@evil.example{PATH}/Patient",
    "a user name on our host": f"https://user@api.redoxengine.com{PATH}/Patient",
    "an empty user name": f"https://@api.redoxengine.com{PATH}/Patient",
    "a password": f"https://user:secret@api.redoxengine.com{PATH}/Patient",
    "another host without a scheme": f"//evil.example{PATH}/Patient",
    "three slashes": f"///evil.example{PATH}/Patient",
    "backslashes": f"https:\\\\evil.example{PATH}/Patient",
    "a backslash before our host": f"https://evil.example\\@api.redoxengine.com{PATH}/Patient",
    "slash and backslash": f"/\\evil.example{PATH}/Patient",
    "another script": f"https://api.redoxeng\u0131ne.com{PATH}/Patient",
    "a full-width dot": f"https://api\uff0eredoxengine.com{PATH}/Patient",
    "punycode": f"https://xn--api-redoxengne-7zb.com{PATH}/Patient",
    "a trailing dot": f"https://api.redoxengine.com.{PATH}/Patient",
    "outside the base": f"{HOST}/platform/v1/environments",
    "another destination": f"{HOST}/fhir/R4/other/Production/Patient",
    "another environment": f"{HOST}/fhir/R4/hospital/Development/Patient",
    "a path that begins like ours": f"{HOST}{PATH}2/Patient",
    "the host's root": "/",
    "the path in capitals": f"{HOST}{PATH.upper()}/Patient",
    "another destination, relative to the host": "/fhir/R4/other/Production/Patient?_page=2",
    "another API, relative to the host": "/platform/v1/environments?_page=2",
    "dot segments to a type": "/fhir/R4/../../platform/Patient",
    "encoded dots to a type": "/fhir/%2e%2e/platform/Patient",
    "a control character in the query": f"{HOST}{PATH}/Patient?name=a\x01b",
    "a tab in the query": f"{HOST}{PATH}/Patient?name=a\tb",
    "half of a character in the query": f"{HOST}{PATH}/Patient?name=\ud800",
    "a space in the path": f"{HOST}{PATH}/Patient list?name=a",
    "another host before a query": f"https://evil.example?x={PATH}/Patient",
    "dot segments that climb": "../../../../platform/v1/environments",
    "dot segments in an absolute link": f"{HOST}{PATH}/../../../../platform",
    "a single dot segment in an absolute link": f"{HOST}{PATH}/./Patient",
    "encoded dots": f"{HOST}{PATH}/%2e%2e/%2e%2e/platform",
    "encoded dots in capitals": f"{HOST}{PATH}/%2E%2E/platform",
    "half-encoded dots": f"{HOST}{PATH}/.%2e/platform",
    "relative encoded dots": "%2e%2e/%2e%2e/platform",
    "encoded slashes": f"{HOST}{PATH}/..%2f..%2fplatform",
    "an encoded backslash": f"{HOST}{PATH}/..%5cplatform",
    "dots with a path parameter": f"{HOST}{PATH}/..;/..;x=1/platform",
    "twice encoded dots": f"{HOST}{PATH}/%252e%252e/platform",
    "dots at the end": f"{HOST}{PATH}/Patient/..",
    "a line break": f"{HOST}{PATH}/Patient?_page=2\r\nX-Header: 1",
    "a leading space": f" {HOST}{PATH}/Patient",
    "a tab within the host": f"https://api.redox\tengine.com{PATH}/Patient",
    "a null": f"{HOST}{PATH}/Patient\x00",
    "a fragment": f"{HOST}{PATH}/Patient#_page=2",
    "an open bracket": "https://[evil.example/Patient",
    "an open bracket without a scheme": "//[evil.example/Patient",
    "an odd address": "https://[v1.fe]/Patient",
    "a user name on an alias": "https://user@ehr.example/r4/Patient",
    "an alias as a subdomain": "https://x.ehr.example/r4/Patient",
    "an alias as user name": "https://ehr.example@evil.example/r4/Patient",
    "an alias that climbs from our path": f"https://ehr.example{PATH}/../../../platform",
    "an alias that encodes its climb": f"https://ehr.example{PATH}/%2e%2e/platform",
    "an alias with a path that begins like ours": f"https://ehr.example{PATH}2/pages",
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_link_that_leads_elsewhere_is_refused(what: str) -> None:
    """A link to another origin, or out of the destination's base, in any disguise is refused without being quoted."""
    with pytest.raises(RedoxSecurityError) as raised:
        BASE.follow(REFUSED[what])
    assert not raised.value.retryable
    for word in ("evil", "secret", "passwd", "platform"):
        assert word not in said_by(raised.value)


@pytest.mark.parametrize(
    ("link", "followed"),
    [
        ("?page=2", f"{HOST}{PATH}/Patient?page=2"),
        ("&search-offset=20&_count=20", f"{HOST}{PATH}/Patient?search-offset=20&_count=20"),
        ("?_getpages=abc&_offset=20", f"{HOST}{PATH}/?_getpages=abc&_offset=20"),
    ],
)
def test_a_query_alone_is_of_the_type_that_is_searched_for(link: str, followed: str) -> None:
    """A link that names no path is no search of the whole server; HAPI's own pages belong to the base."""
    assert BASE.follow(link, resource_type="Patient") == followed


def test_a_link_to_an_unlisted_host_says_how_to_list_it() -> None:
    """The refusal of another host names the field that would allow it."""
    with pytest.raises(RedoxSecurityError, match=r"extra\.link_host_aliases"):
        BASE.follow("https://other.example/r4/Patient")


def test_a_base_below_a_path_keeps_its_links_there() -> None:
    """A connection whose host has a path follows links below that path only."""
    base = Endpoint("https://gateway.example/redox", "hospital", "Production")
    assert base.follow(f"https://gateway.example/redox{PATH}/Patient").endswith(f"/redox{PATH}/Patient")
    with pytest.raises(RedoxSecurityError):
        base.follow(f"https://gateway.example{PATH}/Patient")


def test_a_base_with_a_port_keeps_its_links_there() -> None:
    """A connection with a port follows links with that port only."""
    base = Endpoint("http://localhost:8089", "hospital", "Production")
    assert base.follow(f"http://localhost:8089{PATH}/Patient?p=2") == f"http://localhost:8089{PATH}/Patient?p=2"
    with pytest.raises(RedoxSecurityError):
        base.follow(f"http://localhost{PATH}/Patient")


@pytest.mark.parametrize("piece", ["a/", "A/", "/Aa", "Aa/b/", "/", "Aa"])
def test_a_long_link_costs_no_more_than_its_length(piece: str) -> None:
    """A link of two million characters on an alias is judged in a moment: no step is taken for each pair of them."""
    began = time.process_time()
    with contextlib.suppress(RedoxSecurityError):
        BASE.follow(f"https://ehr.example/{piece * (2_000_000 // len(piece))}?x")
    assert time.process_time() - began < 5


pieces = st.sampled_from(
    [
        "https:",
        "http:",
        "//",
        "/",
        "\\",
        "api.redoxengine.com",
        "evil.example",
        "ehr.example",
        "@",
        ":",
        "443",
        "..",
        ".",
        "%2e",
        "%2f",
        ";",
        "?",
        "#",
        "[",
        "]",
        "fhir/R4/hospital/Production",
        "Patient",
        " ",
        "\t",
        "\u0131",
    ]
)


@given(st.lists(pieces, max_size=9).map("".join) | st.text(max_size=30))
def test_any_link_is_refused_or_stays_below_our_base(link: str) -> None:
    """Whatever a link says, what is followed has our origin and our base and no dot segment; all else is refused."""
    try:
        followed = urlsplit(BASE.follow(link))
    except RedoxSecurityError:
        return
    assert origin(followed) == ("https", "api.redoxengine.com", 443)
    assert followed.path == PATH or followed.path.startswith(f"{PATH}/")
    assert followed.username is None
    assert not {".", "..", "%2e", "%2e%2e"} & {segment.lower() for segment in followed.path.split("/")}
