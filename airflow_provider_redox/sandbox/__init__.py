"""A local Redox to run against, as a process of its own: ``python -m airflow_provider_redox.sandbox``.

It promises what Redox documents (token endpoint, FHIR R4, Data Model, platform logs, uploads) on invented patients, is
strict where Redox is lax, writes down every request in a ledger, and fails on demand in sixteen ways. It imports
nothing from the rest of the package and verifies signatures with another library than the client makes them with, so
that the two cannot agree on the same mistake. It listens on loopback addresses only and holds no real data.
"""
