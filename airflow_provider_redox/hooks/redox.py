"""RedoxHook and RedoxAsyncHook: an Airflow connection of type `redox` becomes a client.

The hooks hold no logic of the exchange: each method names a flow of the ground floor and drives it, one hook
blocking, the other awaiting. RedoxHook also speaks the dialect of Airflow's HttpHook (`run`, `get_conn`), so that an
HttpOperator that is not deferrable works with a redox connection; `hooks/dialect.py` says what of that dialect is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError
from airflow_provider_redox.hooks import form
from airflow_provider_redox.hooks.edge import final
from airflow_provider_redox.protocol.terms import terms

if TYPE_CHECKING:
    from os import PathLike

    import requests
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_redox.client.asynchronous import AsyncClient
    from airflow_provider_redox.client.sync import SyncClient
    from airflow_provider_redox.protocol.data_model import Accepted
    from airflow_provider_redox.protocol.destinations import Destination
    from airflow_provider_redox.protocol.effects import Flow, RedoxResponse
    from airflow_provider_redox.protocol.outcomes import RetryPolicy
    from airflow_provider_redox.protocol.pages import Page
    from airflow_provider_redox.protocol.settings import Settings

DEFAULT_CONN_ID = "redox_default"


class RedoxHook(BaseHook):
    """Exchange with Redox, blocking.

    :param redox_conn_id: the connection.
    :param retry: how patient one request is; five tries within 15 minutes by default.
    :param audit: `required`, `best_effort` or `off`; `[redox] audit` by default, and no laxer than that.
    :param method: the HTTP method of `run`.
    :param auth_type: accepted because HttpOperator passes it; must be None, the connection's key is what signs.
    :param tcp_keep_alive: accepted because HttpOperator passes it, as are the `tcp_*` arguments; without effect.
    """

    conn_name_attr = "redox_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "redox"
    hook_name = "Redox"

    def __init__(
        self,
        redox_conn_id: str = DEFAULT_CONN_ID,
        *,
        retry: RetryPolicy | None = None,
        audit: str | None = None,
        method: str = "POST",
        auth_type: Any = None,
        tcp_keep_alive: bool = True,
        tcp_keep_alive_idle: int = 120,
        tcp_keep_alive_count: int = 20,
        tcp_keep_alive_interval: int = 30,
    ) -> None:
        super().__init__()
        self.redox_conn_id = redox_conn_id
        self.retry = retry
        self.audit = audit
        self.method = method.upper()
        self.auth_type = auth_type
        self.tcp_keep_alive = tcp_keep_alive
        self.tcp_keep_alive_idle = tcp_keep_alive_idle
        self.tcp_keep_alive_count = tcp_keep_alive_count
        self.tcp_keep_alive_interval = tcp_keep_alive_interval

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Give the form's extra fields to Airflow 2.11 to 3.1; later versions read them from the provider's metadata."""
        return form.widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Give the form's labels to Airflow 2.11 to 3.1."""
        return form.legacy_behaviour()

    @cached_property
    def client(self) -> SyncClient:
        """The client of this connection, made at the first use. Raises `RedoxConfigError`."""
        from airflow_provider_redox.client.sync import SyncClient
        from airflow_provider_redox.hooks.connection import settings_from
        from airflow_provider_redox.hooks.surroundings import surroundings

        settings = settings_from(self.get_connection(self.redox_conn_id))
        return SyncClient(settings, **surroundings(settings, self.retry, self.audit))

    def request(self, method: str, path: str, **options: Any) -> RedoxResponse:
        """Send any request below the connection's host; see `Calls.request` for the options.

        `idempotent` says whether it may be sent again; by default GET, `_search` and Data Model queries may, and nothing
        else. Raises for every status but 2xx.
        """
        return self.client.run(self.client.accounted.request(method, path, **options))

    def fhir_search(
        self,
        resource_type: str,
        search_params: Mapping[str, Any],
        *,
        max_pages: int | None = None,
        on_total_mismatch: str = "fail",
        handling: str = "strict",
        **where: Any,
    ) -> Iterator[dict[str, Any]]:
        """Search, and give every resource of every page once, as a dict, or raise.

        Options as in RedoxFhirSearchOperator, and destination, environment, headers.
        """
        agreed = terms(max_pages=max_pages, on_total_mismatch=on_total_mismatch, handling=handling)
        return self._resources(self.client.accounted.pages(resource_type, search_params, terms=agreed, **where))

    def _resources(self, pages: Iterator[Flow[Page]]) -> Iterator[dict[str, Any]]:
        for page in pages:
            yield from (resource.as_dict() for resource in self.client.run(page).resources)

    def fhir_read(self, resource_type: str, resource_id: str, **options: Any) -> dict[str, Any]:
        """Read one resource by its logical ID. Options: destination, environment, headers."""
        read: dict[str, Any] = self.client.run(self.client.accounted.read(resource_type, resource_id, **options)).json()
        return read

    def fhir_writeback(self, resource_type: str, operation: str, bundle: Mapping[str, Any], **options: Any) -> RedoxResponse:
        """Send a message Bundle to an operation such as `$observation-create`. Never repeated where it may have arrived."""
        return self.client.run(self.client.accounted.writeback(resource_type, operation, bundle, **options))

    def post_data_model(
        self,
        message: Mapping[str, Any],
        *,
        destination: str | None = None,
        environment: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Accepted:
        """Send a Data Model message; what its Meta lacks is filled in on a copy. Gives the log IDs."""
        complete = self.client.calls.complete_message(message, destination=destination, environment=environment)
        return self.client.run(self.client.accounted.post(complete, headers))

    def query_data_model(
        self,
        message: Mapping[str, Any],
        *,
        destination: str | None = None,
        environment: str | None = None,
        headers: Mapping[str, str] | None = None,
        on_incomplete: str = "fail",
    ) -> dict[str, Any]:
        """Send a Data Model query to one destination and return its answer.

        An answer that is marked as incomplete (`Meta.IsIncomplete`) is an error, unless `on_incomplete` is `warn`.
        """
        complete = self.client.calls.complete_message(message, destination=destination, environment=environment)
        asked = self.client.accounted.query(complete, headers, on_incomplete=on_incomplete)
        answer: dict[str, Any] = self.client.run(asked).json()
        return answer

    def upload(self, file: str | PathLike[str] | bytes, **options: Any) -> str:
        """Upload a file of up to 30 MB, by its path or URL in storage, and give the URI to put into a message.

        Options: headers; and idempotent, True to have it repeated where it may have arrived.
        """
        from airflow_provider_redox.storage.inputs import file_to_upload

        return self.client.run(self.client.accounted.upload(file_to_upload(file, where="file"), **options))

    def get_log(self, log_id: str) -> dict[str, Any]:
        """Look a log up in the Platform API. Needs a connection with a user-level key."""
        return self.client.run(self.client.calls.log(log_id))

    def destinations(self, *, tag: str | None = None, data_model: str | None = None) -> list[Destination]:
        """Give the destinations that the connection describes, all or those with a tag or a data model's ID."""
        return self.client.calls.destinations(tag=tag, data_model=data_model)

    def get_access_token(self) -> str:
        """Give a fresh access token, from the cache if it holds one. Keep it out of logs and XComs."""
        from airflow_provider_redox.protocol.effects import Bearer

        token: str = self.client.perform(Bearer())
        return token

    def test_connection(self) -> tuple[bool, str]:
        """Exchange one assertion for a token: no clinical call, no cache. Gives success and what to tell the user."""
        from airflow_provider_redox.hooks import check

        report = check.connection(self)
        return report.ok, report.message

    def get_conn(self, headers: Mapping[str, str] | None = None) -> requests.Session:
        """Give a requests Session that signs in by itself and goes nowhere but to the connection's own host."""
        from airflow_provider_redox.hooks import dialect

        return dialect.session(self.client, headers)

    def run(
        self,
        endpoint: str | None = None,
        data: Mapping[str, Any] | str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        extra_options: Mapping[str, Any] | None = None,
        **request_kwargs: Any,
    ) -> requests.Response:
        """Send one request as HttpHook does: data as query parameters of a GET, as the body of anything else.

        Raises our errors for every status but 2xx, unless extra_options has `check_response` False. HttpOperator calls
        this, so an unknown outcome is an AirflowFailException: a retry would send the message again.
        """
        from airflow_provider_redox.hooks import dialect

        try:
            return dialect.run(self, endpoint, data, headers, extra_options or {}, request_kwargs)
        except RedoxAmbiguousOutcomeError as error:
            raise final(error) from error

    def run_with_advanced_retry(self, _retry_args: Mapping[str, Any], *_args: Any, **_kwargs: Any) -> requests.Response:
        """Refuse: retrying from outside would send unsafe requests again."""
        from airflow_provider_redox.hooks import dialect

        raise dialect.no_advanced_retry()


class RedoxAsyncHook(BaseHook):
    """Exchange with Redox, awaiting: the names of RedoxHook, each to be awaited. Belongs to one event loop.

    Use it as an asynchronous context manager, or call `close()`.
    """

    def __init__(
        self, redox_conn_id: str = DEFAULT_CONN_ID, *, retry: RetryPolicy | None = None, audit: str | None = None
    ) -> None:
        super().__init__()
        self.redox_conn_id = redox_conn_id
        self.retry = retry
        self.audit = audit
        self._client: AsyncClient | None = None
        self._making = asyncio.Lock()

    async def __aenter__(self) -> RedoxAsyncHook:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def client(self) -> AsyncClient:
        """Give the client of this connection, made at the first use. Raises `RedoxConfigError`."""
        async with self._making:
            if self._client is None:
                self._client = await self._new_client()
        return self._client

    async def _new_client(self) -> AsyncClient:
        from asgiref.sync import sync_to_async

        from airflow_provider_redox.client.asynchronous import AsyncClient
        from airflow_provider_redox.hooks.connection import reach_signer

        # Everything that talks to Airflow goes through asgiref's one thread. On 3.2.1 common-compat's
        # get_async_connection masks on the loop's own thread, which with a Variable read elsewhere hangs the triggerer.
        connection = await sync_to_async(self.get_connection)(self.redox_conn_id)
        # A key service may be slow: it is asked in a thread of its own, for which neither the loop nor Airflow waits.
        await asyncio.to_thread(reach_signer, connection)
        settings, around = await sync_to_async(self._settings)(connection)
        return AsyncClient(settings, **around)

    def _settings(self, connection: Connection) -> tuple[Settings, dict[str, Any]]:
        from airflow_provider_redox.hooks.connection import settings_from
        from airflow_provider_redox.hooks.surroundings import surroundings

        settings = settings_from(connection)
        return settings, surroundings(settings, self.retry, self.audit)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def request(self, method: str, path: str, **options: Any) -> RedoxResponse:
        """As `RedoxHook.request`."""
        client = await self.client()
        return await client.run(client.accounted.request(method, path, **options))

    async def fhir_search(
        self,
        resource_type: str,
        search_params: Mapping[str, Any],
        *,
        max_pages: int | None = None,
        on_total_mismatch: str = "fail",
        handling: str = "strict",
        **where: Any,
    ) -> AsyncIterator[dict[str, Any]]:
        """As `RedoxHook.fhir_search`."""
        client = await self.client()
        agreed = terms(max_pages=max_pages, on_total_mismatch=on_total_mismatch, handling=handling)
        for page in client.accounted.pages(resource_type, search_params, terms=agreed, **where):
            for resource in (await client.run(page)).resources:
                yield resource.as_dict()

    async def fhir_read(self, resource_type: str, resource_id: str, **options: Any) -> dict[str, Any]:
        """As `RedoxHook.fhir_read`."""
        client = await self.client()
        read: dict[str, Any] = (await client.run(client.accounted.read(resource_type, resource_id, **options))).json()
        return read

    async def fhir_writeback(
        self, resource_type: str, operation: str, bundle: Mapping[str, Any], **options: Any
    ) -> RedoxResponse:
        """As `RedoxHook.fhir_writeback`."""
        client = await self.client()
        return await client.run(client.accounted.writeback(resource_type, operation, bundle, **options))

    async def post_data_model(
        self, message: Mapping[str, Any], *, headers: Mapping[str, str] | None = None, **where: Any
    ) -> Accepted:
        """As `RedoxHook.post_data_model`."""
        client = await self.client()
        return await client.run(client.accounted.post(client.calls.complete_message(message, **where), headers))

    async def query_data_model(
        self,
        message: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        on_incomplete: str = "fail",
        **where: Any,
    ) -> dict[str, Any]:
        """As `RedoxHook.query_data_model`."""
        client = await self.client()
        complete = client.calls.complete_message(message, **where)
        asked = client.accounted.query(complete, headers, on_incomplete=on_incomplete)
        answer: dict[str, Any] = (await client.run(asked)).json()
        return answer

    async def upload(self, file: str | PathLike[str] | bytes, **options: Any) -> str:
        """As `RedoxHook.upload`."""
        from asgiref.sync import sync_to_async

        from airflow_provider_redox.storage.inputs import file_to_upload

        found = await sync_to_async(file_to_upload)(file, where="file")  # it may ask Airflow for the store's connection
        client = await self.client()
        return await client.run(client.accounted.upload(found, **options))

    async def get_log(self, log_id: str) -> dict[str, Any]:
        """As `RedoxHook.get_log`."""
        client = await self.client()
        return await client.run(client.calls.log(log_id))

    async def destinations(self, *, tag: str | None = None, data_model: str | None = None) -> list[Destination]:
        """As `RedoxHook.destinations`."""
        return (await self.client()).calls.destinations(tag=tag, data_model=data_model)

    async def get_access_token(self) -> str:
        """As `RedoxHook.get_access_token`."""
        from airflow_provider_redox.protocol.effects import Bearer

        token: str = await (await self.client()).perform(Bearer())
        return token
