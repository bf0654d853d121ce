"""The dialect of Airflow's HttpHook, spoken over our own client.

`HttpOperator(http_conn_id="redox_default")` asks the connection for its hook and calls `run`; it expects a
`requests.Response`. So `get_conn()` gives a requests Session whose only adapter sends through our client: authenticated,
with timeouts, bounded bodies and no redirects, to the connection's own origin and nowhere else. What HttpHook
would do with a connection (send extra as headers, login and password as Basic auth, log bodies, retry anything) cannot be
reached from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.effects import RedoxResponse
from airflow_provider_redox.protocol.failures import refusal
from airflow_provider_redox.protocol.raw import checked_url

if TYPE_CHECKING:
    from airflow_provider_redox.client.sync import SyncClient
    from airflow_provider_redox.hooks.redox import RedoxHook

_IGNORED = ("timeout", "stream", "allow_redirects", "max_redirects", "check_response")
"""extra_options that HttpHook knows and that the client decides here: its own timeouts, whole bodies, no redirects."""

_SET_BY_REQUESTS = (
    "content-length",
    "transfer-encoding",
    "connection",
    "accept-encoding",
    "user-agent",
    "cookie",
    "host",
)


class ClientAdapter(BaseAdapter):
    """Sends prepared requests through a SyncClient."""

    def __init__(self, client: SyncClient) -> None:
        super().__init__()
        self._client = client

    def send(self, request: requests.PreparedRequest, *_args: Any, **_kwargs: Any) -> requests.Response:
        """Send, with the bearer token added. Timeouts, proxies and certificates are the client's own."""
        body = request.body.encode() if isinstance(request.body, str) else request.body
        if body is not None and not isinstance(body, bytes):
            raise RedoxConfigError(
                "data: must be text, bytes or form fields; streams cannot be sent again when that is needed"
            )
        own = {name.lower(): str(value) for name, value in request.headers.items()}
        own = {name: value for name, value in own.items() if name not in _SET_BY_REQUESTS}
        sent = self._client.calls.prepared(request.method or "GET", request.url or "", data=body, headers=own)
        flow = self._client.accounted.send(sent, self._client.calls.answered(sent))
        return _as_requests(self._client.run(flow), request)

    def close(self) -> None:
        """Nothing to close: the connections are the client's."""


def session(client: SyncClient, headers: Mapping[str, str] | None) -> requests.Session:
    """Make the session."""
    made = requests.Session()
    made.trust_env = False
    made.headers.clear()
    made.headers.update(headers or {})
    made.adapters.clear()
    for scheme in ("https://", "http://"):
        made.mount(scheme, ClientAdapter(client))
    return made


def run(
    hook: RedoxHook,
    endpoint: str | None,
    data: Mapping[str, Any] | str | bytes | None,
    headers: Mapping[str, str] | None,
    extra_options: Mapping[str, Any],
    request_kwargs: Mapping[str, Any],
) -> requests.Response:
    """Send one request in HttpHook's manner and check its status."""
    if hook.auth_type is not None:
        raise RedoxConfigError("auth_type: must stay unset; a redox connection signs in with its own key")
    unknown = [name for name in extra_options if name not in _IGNORED]
    if unknown:
        raise RedoxConfigError(
            f"extra_options: {', '.join(map(str, unknown))} cannot be set on a redox connection; leave it out"
        )
    url = checked_url(hook.client.settings.base_url, endpoint or "")
    place = {"params": data} if hook.method == "GET" else {"data": data}
    with session(hook.client, headers) as made:
        response = made.request(hook.method, url, **{**place, **request_kwargs})
    if extra_options.get("check_response", True) and response.status_code >= 400:
        raise refusal(_as_ours(response))
    return response


def no_advanced_retry() -> RedoxConfigError:
    """Make the error for HttpHook's blanket retry."""
    return RedoxConfigError(
        "retry_args: leave it out on a redox connection; the hook repeats what may be repeated, and any other request "
        "would be sent twice"
    )


def _as_requests(answer: RedoxResponse, request: requests.PreparedRequest) -> requests.Response:
    response = requests.Response()
    response.status_code = answer.status
    response.headers = CaseInsensitiveDict(
        {name: value for name, value in answer.headers.items() if name not in ("content-encoding", "set-cookie")}
    )
    response._content = answer.body  # noqa: SLF001  (requests offers no other way to make a Response)
    response.reason = ""
    response.url = urlsplit(request.url or "")._replace(query="").geturl()
    response.encoding = requests.utils.get_encoding_from_headers(response.headers) or "utf-8"
    return response


def _as_ours(response: requests.Response) -> RedoxResponse:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return RedoxResponse(response.status_code, headers, response.content)
