"""The 36 rules of what must not happen, and where each is tested: an index, held by a test that every name in it exists.

Rules that are about every way to use a connection are tested over `ways.WAYS`, here in `tests/security`; those about one
part, beside the other tests of that part.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
HERE = "security/test_hostile.py::"

RULES: dict[int, tuple[str, list[str]]] = {
    1: (
        "A next link to another host: no request is sent there.",
        [
            "security/test_paging.py::test_a_page_leads_nowhere_else",
            "operators/test_fhir_search.py::test_a_link_to_another_host_is_refused_and_the_token_unsent",
        ],
    ),
    2: (
        "A next link to our host in disguise: the origin is exact, in upper or lower case.",
        [
            "security/test_paging.py::test_a_page_leads_nowhere_else",
            "security/test_paging.py::test_a_page_leads_on_to_our_own_host",
            "protocol/test_next_links.py::test_a_link_that_leads_elsewhere_is_refused",
            "protocol/test_next_links.py::test_a_link_onto_our_own_base_is_followed",
            "protocol/test_next_links.py::test_any_link_is_refused_or_stays_below_our_base",
            "protocol/test_calls.py::test_any_path_is_refused_or_stays_on_our_origin",
        ],
    ),
    3: (
        "A next link outside the destination's base is refused.",
        [
            "security/test_paging.py::test_a_page_leads_nowhere_else",
            "protocol/test_next_links.py::test_a_base_below_a_path_keeps_its_links_there",
        ],
    ),
    4: (
        "A redirect of a message: the target sees no body.",
        [f"{HERE}test_no_other_request_is_redirected", "client/test_faults.py::test_redirects_are_not_followed"],
    ),
    5: (
        "A redirect of the token request: the target sees no assertion.",
        [
            f"{HERE}test_a_token_request_is_not_redirected",
            "protocol/test_exchange.py::test_a_redirect_of_the_token_endpoint_is_refused",
        ],
    ),
    6: (
        "Plain http is for this machine, or for who says so.",
        [f"{HERE}test_plain_http_is_refused", "protocol/test_settings.py::test_plain_http_is_for_this_machine_only"],
    ),
    7: (
        "A certificate that nobody vouches for: no request, no second try; the check cannot be switched off.",
        [
            f"{HERE}test_an_unknown_certificate_is_refused",
            "client/test_tls.py::test_another_host_name",
            "client/test_tls.py::test_expired",
            "security/test_careless.py::test_certificates_cannot_be_left_unchecked",
            "hooks/test_dialect.py::test_unknown_extra_options_are_refused",
        ],
    ),
    8: ("netrc changes no request.", [f"{HERE}test_netrc_is_not_read", "client/test_environment.py::test_netrc"]),
    9: (
        "A proxy of the environment is used, and its CONNECT holds no token.",
        [
            "client/test_environment.py::test_https_proxy",
            "client/test_environment.py::test_http_proxy",
            "client/test_environment.py::test_proxy_with_a_login",
            "client/test_environment.py::test_no_proxy",
        ],
    ),
    10: (
        "An assertion is what RFC 7523 and SMART say, by another library's judgement.",
        [
            "protocol/test_assertion.py::test_an_independent_library_verifies_the_signature",
            "protocol/test_assertion.py::test_the_header_is_algorithm_type_and_key_id",
            "protocol/test_assertion.py::test_the_claims_are_exactly_these",
            "protocol/test_assertion.py::test_an_assertion_lives_at_most_five_minutes_and_never_starts_in_the_future",
        ],
    ),
    11: (
        "No jti comes twice, in forked processes neither.",
        ["security/test_careless.py::test_no_number_is_used_twice_across_processes"],
    ),
    12: (
        "An assertion that was used is refused, and none of ours is used twice.",
        [
            "client/test_drivers.py::test_each_try_of_the_token_request_has_its_own_assertion",
            "sandbox/test_tokens.py::test_an_assertion_works_once",
            "protocol/test_exchange.py::test_each_try_for_a_token_has_a_new_assertion",
        ],
    ),
    13: (
        "A clock that is off is named.",
        [
            "hooks/test_check.py::test_the_clock",
            "hooks/test_check.py::test_a_clock_a_little_off",
            "protocol/test_exchange.py::test_a_wrong_clock_is_named",
        ],
    ),
    14: (
        "No algorithm but RS384 and ES384, and only the key's own, before any request.",
        [
            "protocol/test_keys.py::test_other_algorithms_are_refused",
            "protocol/test_keys.py::test_an_algorithm_that_does_not_fit_the_key_is_refused",
            "hooks/test_connection.py::test_a_wrong_field",
        ],
    ),
    15: (
        "A weak key, and what is no private key, is refused without being quoted.",
        [
            "protocol/test_keys.py::test_what_cannot_sign_gets_its_own_sentence",
            "protocol/test_keys.py::test_a_refusal_holds_no_part_of_the_key",
            "security/test_fuzz.py::test_any_key",
        ],
    ),
    16: (
        "A key in any pasted form is taken.",
        [
            "protocol/test_keys.py::test_every_pasted_form_is_the_same_key",
            "protocol/test_keys.py::test_the_key_id_chooses_from_a_jwks",
        ],
    ),
    17: (
        "A key without an ID is refused before any request.",
        ["protocol/test_keys.py::test_a_key_without_any_key_id_is_refused"],
    ),
    18: (
        "One token for all who share a connection, none for anybody else; at rest it is sealed.",
        [
            "client/test_drivers.py::test_one_token_for_a_hundred_threads",
            "client/test_drivers.py::test_one_token_for_a_hundred_coroutines",
            "client/test_drivers.py::test_connections_do_not_share_tokens",
            "hooks/test_hooks.py::test_a_new_secret_is_a_new_token",
            "protocol/test_settings.py::test_a_fingerprint_differs_with_whatever_makes_a_token_another",
            "token_cache/test_seal.py::test_nothing_in_clear",
            "token_cache/test_seal.py::test_another_seal",
        ],
    ),
    19: (
        "A trigger's row holds no token, key or payload.",
        [
            "hooks/test_stock_http.py::test_the_trigger_row_holds_no_key",
            "dags/test_canaries.py::test_no_patient_is_left_behind",
        ],
    ),
    20: (
        "An odd lifetime of a token is refused or bounded.",
        [
            "protocol/test_token.py::test_an_odd_lifetime_is_refused",
            "protocol/test_token.py::test_a_lifetime_is_a_positive_number_of_at_most_an_hour",
            f"{HERE}test_an_odd_token_is_not_used",
        ],
    ),
    21: (
        "An answer without a token, of another type, in HTML, of 10 MB: an error, and nothing of it is shown.",
        [f"{HERE}test_an_odd_token_is_not_used", "security/test_fuzz.py::test_any_token_answer"],
    ),
    22: (
        "A token cannot begin another header.",
        [f"{HERE}test_an_odd_token_is_not_used", "protocol/test_token.py::test_a_token_with_other_characters_is_refused"],
    ),
    23: (
        "No name leads to another path or header.",
        [
            "protocol/test_destinations.py::test_a_text_that_is_no_destination_is_refused",
            "protocol/test_fhir.py::test_a_text_that_is_no_resource_id_is_refused",
            "protocol/test_fhir.py::test_a_name_that_is_no_operation_is_refused",
            "protocol/test_calls.py::test_a_path_that_leads_elsewhere_is_refused",
            "protocol/test_calls.py::test_a_request_cannot_bring_its_own_identity",
            "protocol/test_settings.py::test_the_providers_own_headers_cannot_be_set",
            "protocol/test_settings.py::test_a_header_value_is_one_line_of_ascii",
            "hooks/test_dialect.py::test_authors_authorization",
        ],
    ),
    24: (
        "What is searched for stands in the body, and in no URL that is logged.",
        [
            "client/test_drivers.py::test_search_parameters_travel_in_the_body",
            "protocol/test_fhir.py::test_what_is_searched_for_is_in_no_url_label_or_repr",
            "hooks/test_dialect.py::test_the_url_of_an_answer_holds_no_query",
            "client/test_logs.py::test_a_next_link_may_hold_a_patient",
        ],
    ),
    25: (
        "No log at DEBUG holds a token, an assertion, a key or a body.",
        [
            "client/test_logs.py::test_an_exchange_is_logged_without_secrets",
            f"{HERE}test_what_a_server_says_is_not_repeated",
            "dags/test_canaries.py::test_no_patient_is_left_behind",
        ],
    ),
    26: (
        "No error, in its whole chain, and no repr holds any of it.",
        [
            f"{HERE}test_what_a_server_says_is_not_repeated",
            "client/test_logs.py::test_nothing_shows_in_a_repr",
            "security/test_careless.py::test_half_a_character_is_refused_unseen",
        ],
    ),
    27: (
        "What an error answer says in words is not told, its codes are.",
        [
            "protocol/test_failures.py::test_a_patient_in_an_issue_is_not_told",
            "protocol/test_failures.py::test_a_patient_in_a_meta_error_is_not_told",
            "protocol/test_failures.py::test_an_issue_is_told_in_codes_and_paths",
        ],
    ),
    28: (
        "Payloads and answers are in no rendered field and no XCom.",
        [
            "operators/test_request.py::test_contents_are_templated_and_yet_no_template_fields",
            "operators/test_fhir_search.py::test_nothing_of_a_patient_is_in_the_manifest_or_in_a_url",
            "dags/test_canaries.py::test_no_patient_is_left_behind",
        ],
    ),
    29: (
        "An answer is bounded: as stated, as it comes, unpacked, packed twice, and in time.",
        [
            "client/test_faults.py::test_oversize_stated",
            "client/test_faults.py::test_endless_body",
            "client/test_faults.py::test_gzip_bomb",
            "client/test_faults.py::test_endless_gzip_that_yields_nothing",
            "client/test_timeouts.py::test_drips",
            f"{HERE}test_what_a_server_says_is_not_repeated",
        ],
    ),
    30: (
        "JSON without measure is an error of ours.",
        [f"{HERE}test_what_a_server_says_is_not_repeated", "security/test_fuzz.py::test_any_answer"],
    ),
    31: (
        "Pages without an end, in a circle, or fewer than were counted are an error, and no result.",
        [
            "operators/test_fhir_search.py::test_pages_without_an_end_are_an_error",
            "operators/test_search_terms.py::test_what_shifting_pages_hide_fails_the_search",
            "protocol/test_server_model.py::test_pages_without_end_are_given_up_on",
        ],
    ),
    32: (
        "An odd Retry-After is bounded.",
        [
            "client/test_drivers.py::test_rate_limit_beyond_patience",
            "protocol/test_exchange.py::test_a_time_beyond_patience_ends_the_tries",
            "security/test_fuzz.py::test_any_retry_after",
        ],
    ),
    33: (
        "A wrong extra is named without its value; the Test button sends one token request and nothing clinical.",
        [
            "hooks/test_connection.py::test_a_wrong_field",
            "protocol/test_settings.py::test_any_extra_is_a_connection_or_a_config_error",
            "protocol/test_settings.py::test_no_complaint_shows_a_value",
            "hooks/test_check.py::test_it_works",
            "hooks/test_check.py::test_no_secret_in_a_success",
        ],
    ),
    34: (
        "What a connection or a server says is no template.",
        [
            "security/test_careless.py::test_what_a_connection_says_is_no_template",
            "security/test_careless.py::test_what_a_server_says_is_no_template",
            "security/test_careless.py::test_what_a_template_gives_is_no_template",
        ],
    ),
    35: (
        "Nothing that is read is run, and no name from an answer is a path.",
        [
            "security/test_careless.py::test_nothing_in_the_package_runs_what_it_reads",
            "security/test_storage.py::test_a_name_in_an_answer_names_no_file",
            "security/test_storage.py::test_a_header_of_an_answer_names_no_file",
            "security/test_storage.py::test_a_manifest_that_was_put_there_removes_nothing_outside",
        ],
    ),
    36: (
        "A worker that is killed between send and answer: the next try sends nothing.",
        [
            "dags/test_sends_killed.py::test_a_worker_killed_between_send_and_answer_is_not_repeated",
            "operators/test_sends_model.py::test_one_run_never_doubles_a_message",
        ],
    ),
}
"""By number: the rule, and the tests that hold it."""


@functools.cache
def names_in(file: str) -> set[str]:
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(ast.parse((TESTS / file).read_text())) if isinstance(node, functions)}


def test_there_are_thirty_six() -> None:
    """No number is left out."""
    assert list(RULES) == list(range(1, 37))


@pytest.mark.parametrize("number", RULES)
def test_each_rule_has_its_tests(number: int) -> None:
    """Each rule names tests, and each of them exists."""
    _, tests = RULES[number]
    assert tests
    for test in tests:
        file, _, name = test.partition("::")
        assert name in names_in(file), test
