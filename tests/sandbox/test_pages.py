"""Paging: opaque cursors over a snapshot, in all the styles a server could have."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import pytest

from .conftest import KEVA, Client


def next_of(bundle: dict[str, Any]) -> str | None:
    return next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)


def follow(redox: Client, url: str, method: str = "GET") -> Any:
    parts = urlsplit(url)
    if method == "GET":
        return redox.call("GET", f"{parts.path}?{parts.query}")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    return redox.call("POST", f"{parts.path}/_search", data=parts.query, headers=form)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_all_pages_together_are_all_matches(redox: Client, method: str) -> None:
    """Following next with GET, or with POST _search and its query as a form, gives each match once."""
    bundle = redox.search("Encounter", {"_count": "100"}).json()
    seen, pages = [entry["resource"]["id"] for entry in bundle["entry"]], 1
    while url := next_of(bundle):
        bundle = follow(redox, url, method).json()
        assert bundle["total"] == redox.control("GET", "stats").json()["resources_by_type"]["Encounter"]
        seen += [entry["resource"]["id"] for entry in bundle["entry"]]
        pages += 1
    assert len(seen) == len(set(seen)) == bundle["total"]
    assert pages == -(-bundle["total"] // 100)


def test_the_page_size_is_a_setting_and_count_overrides_it(redox: Client) -> None:
    """Without _count a page has page_size matches."""
    redox.settings(page_size=7)
    assert len(redox.search("Encounter", {"status": "finished"}).json()["entry"]) == 7
    assert len(redox.search("Encounter", {"status": "finished", "_count": "9"}).json()["entry"]) == 9


def test_a_next_link_tells_nothing(redox: Client) -> None:
    """The link carries a cursor and none of the parameters that were searched for."""
    url = next_of(redox.search("Observation", {"patient": KEVA, "_count": "2"}).json())
    assert url
    assert url.startswith(f"{redox.url}/fhir/R4/general-hospital/Development/Observation?_page=")
    assert KEVA not in url


def test_a_page_can_be_fetched_again(redox: Client) -> None:
    """A page is the same when it is asked for again, with the size it had when the search began."""
    url = next_of(redox.search("Encounter", {"_count": "5"}).json())
    assert url
    first = follow(redox, url).json()
    redox.settings(page_size=3)
    assert follow(redox, url).json()["entry"] == first["entry"]
    assert len(first["entry"]) == 5


@pytest.mark.parametrize("cursor", ["_page=unknown", "_page=unknown&_count=5"])
def test_an_unknown_cursor_is_refused(redox: Client, cursor: str) -> None:
    """A page that is not known gets 410; a cursor with company gets 400."""
    answer = redox.call("GET", redox.fhir(f"Encounter?{cursor}"))
    assert answer.status_code == (400 if "_count" in cursor else 410)
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_cursor_may_come_with_its_own_search(redox: Client) -> None:
    """By POST the parameters of the search may stand beside the cursor; those of another search are refused."""
    url = next_of(redox.search("Encounter", {"_count": "5"}).json())
    assert url
    cursor = urlsplit(url).query
    path = redox.fhir("Encounter/_search")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    own, other = (redox.call("POST", path, data=f"{cursor}&_count={count}", headers=headers) for count in (5, 6))
    assert own.json()["entry"] == follow(redox, url).json()["entry"]
    assert other.status_code == 400


def test_a_cursor_belongs_to_its_path(redox: Client) -> None:
    """A cursor of one type or destination is unknown to another."""
    url = next_of(redox.search("Encounter", {"_count": "5"}).json())
    assert url
    assert follow(redox, url.replace("Encounter", "Observation")).status_code == 410
    assert follow(redox, url.replace("general-hospital", "lakeside-clinic")).status_code == 410


def test_relative_links_are_relative_to_the_fhir_base(redox: Client) -> None:
    """In the style relative, next is the type and the cursor."""
    redox.settings(link_style="relative")
    url = next_of(redox.search("Encounter", {"_count": "5"}).json())
    assert url
    assert url.startswith("Encounter?_page=")
    assert redox.call("GET", redox.fhir(url)).status_code == 200


@pytest.mark.parametrize(("style", "works", "fails"), [("post-only", "POST", "GET"), ("get-only", "GET", "POST")])
def test_a_server_may_page_with_one_verb_only(redox: Client, style: str, works: str, fails: str) -> None:
    """In the styles post-only and get-only, the other verb gets 405."""
    redox.settings(link_style=style)
    url = next_of(redox.search("Encounter", {"_count": "5"}).json())
    assert url
    assert follow(redox, url, works).status_code == 200
    assert follow(redox, url, fails).status_code == 405


def test_a_link_may_lead_elsewhere(redox: Client) -> None:
    """In the style foreign, next has the origin that the settings name and the path of the search."""
    redox.settings(link_style="foreign", foreign_origin="http://127.0.0.1:1")
    url = next_of(redox.search("Encounter", {"_count": "5"}).json())
    assert url
    assert url.startswith("http://127.0.0.1:1/fhir/R4/general-hospital/Development/Encounter?_page=")


def chain(redox: Client, style: str, length: int) -> list[str]:
    redox.settings(link_style=style)
    bundle, urls = redox.search("Condition", {"patient": KEVA}).json(), []
    for _ in range(length):
        url = next_of(bundle)
        assert url
        urls.append(url)
        bundle = follow(redox, url).json()
        assert bundle["link"][0]["url"] == url
        assert bundle["entry"]
    return urls


def test_a_loop_names_itself(redox: Client) -> None:
    """In the style loop, the second page's next is its self."""
    assert len(set(chain(redox, "loop", 4))) == 1


def test_a_longer_loop_goes_back_and_forth(redox: Client) -> None:
    """In the style aba, two pages name each other."""
    first, second, third, fourth = chain(redox, "aba", 4)
    assert (first, second) == (third, fourth)
    assert first != second


def test_an_endless_search_has_always_another_page(redox: Client) -> None:
    """In the style endless, every page has a next that was never seen before."""
    assert len(set(chain(redox, "endless", 12))) == 12


def test_a_total_may_lie(redox: Client) -> None:
    """The setting total_offset is added to the total, and to nothing else."""
    redox.settings(total_offset=3)
    bundle = redox.search("Condition", {"patient": KEVA}).json()
    assert bundle["total"] == len(bundle["entry"]) + 3


def drained(redox: Client, count: int) -> tuple[list[list[str]], set[int]]:
    """Follow a search of Encounters to its end; give each page's ids, and the totals that were told."""
    bundle = redox.search("Encounter", {"_count": str(count)}).json()
    pages, totals = [[entry["resource"]["id"] for entry in bundle["entry"]]], {bundle["total"]}
    while url := next_of(bundle):
        bundle = follow(redox, url).json()
        pages.append([entry["resource"]["id"] for entry in bundle["entry"]])
        totals.add(bundle["total"])
    return pages, totals


def test_inserts_while_paging_repeat_resources(redox: Client) -> None:
    """With shift, a page begins with what the page before ended with; all matches are there, the total is their number."""
    redox.settings(shift=2)
    pages, totals = drained(redox, 100)
    assert all(before[-2:] == after[:2] for before, after in pairwise(pages))
    assert totals == {len({one for page in pages for one in page})}


def test_deletions_while_paging_hide_resources(redox: Client) -> None:
    """With a shift below 0, so many are missing between two pages, and the total still counts them."""
    redox.settings(shift=-1)
    pages, totals = drained(redox, 100)
    assert totals == {sum(map(len, pages)) + len(pages) - 1}


def test_more_inserts_than_a_page_holds_still_end(redox: Client) -> None:
    """A shift above the page size moves on by one resource a page."""
    redox.settings(shift=9)
    bundle = redox.search("Encounter", {"_count": "3"}).json()
    first = [entry["resource"]["id"] for entry in bundle["entry"]]
    second = [entry["resource"]["id"] for entry in follow(redox, next_of(bundle) or "").json()["entry"]]
    assert first[1:] == second[:2]
