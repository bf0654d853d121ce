"""What Airflow reads about this package: the connection type and its form, the modules, the options of `[redox]`.

A plain dict that imports nothing: an error here, or a package name with underscores, breaks every Airflow process. The
form stands here once; `hooks/form.py` translates it for Airflow 2.11 to 3.1, which ask the hook's methods instead.
"""

from __future__ import annotations

from typing import Any

_INTEGRATION = "Redox"


def get_provider_info() -> dict[str, Any]:
    """Give the provider's metadata, in the shape of Airflow's provider_info.schema.json."""
    return {
        "package-name": "airflow-provider-redox",
        "name": _INTEGRATION,
        "description": "Exchange clinical data with [Redox](https://www.redoxengine.com): FHIR R4 and Data Models.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://docs.redoxengine.com/",
                "tags": ["service"],
            }
        ],
        "connection-types": [
            {
                "hook-class-name": "airflow_provider_redox.hooks.redox.RedoxHook",
                "hook-name": "Redox",
                "connection-type": "redox",
                "conn-fields": _conn_fields(),
                "ui-field-behaviour": _ui_field_behaviour(),
            }
        ],
        "hooks": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_provider_redox.hooks.redox"]}],
        "operators": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_provider_redox.operators.connection",
                    "airflow_provider_redox.operators.data_model",
                    "airflow_provider_redox.operators.documents",
                    "airflow_provider_redox.operators.fhir",
                    "airflow_provider_redox.operators.purge",
                    "airflow_provider_redox.operators.request",
                    "airflow_provider_redox.operators.upload",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_provider_redox.sensors.delivery",
                    "airflow_provider_redox.sensors.fhir",
                    "airflow_provider_redox.sensors.inbox",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_provider_redox.triggers.delivery",
                    "airflow_provider_redox.triggers.fhir",
                    "airflow_provider_redox.triggers.inbox",
                ],
            }
        ],
        "extra-links": [
            "airflow_provider_redox.links.logs.LogLink",
            "airflow_provider_redox.links.results.ResultsLink",
        ],
        "config": {"redox": {"description": "Where results go, and the record of disclosures.", "options": _options()}},
    }


def _field(label: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], **schema}}


def _conn_fields() -> dict[str, Any]:
    return {
        "client_id": _field("Client ID", "The client ID on the API key's page in Redox."),
        "kid": _field("Key ID", "The key ID that Redox shows beside the public key. Taken from the JWK when left empty."),
        "environment": _field(
            "Environment",
            "The Redox environment that this key belongs to.",
            enum=["Development", "Staging", "Production"],
        ),
        "destination": _field(
            "Default destination", "Used when an operator names none: a name from Destinations or a slug."
        ),
        "destinations": {
            "label": "Destinations",
            "description": 'What each name means: {"general": {"slug": "general-hospital", "id": "<uuid>"}}.',
            "schema": {"type": ["object", "null"]},
        },
        "source_id": _field("Source ID", "Needed only when the environment has several sources."),
        "key_file": _field("Key file", "Path of the private key on the worker, instead of pasting the key."),
        "signer": _field(
            "Remote signer",
            "Who signs with a key that never leaves, instead of a private key: aws_kms, vault, google_kms, azure_key_vault, "
            "or the path of a class of your own.",
        ),
        "signer_key": _field("Signer's key", "The key's name at the remote signer, such as its ARN."),
        "algorithm": _field("Algorithm", "Follows from the key when left empty.", enum=["RS384", "ES384"]),
        "organization_id": _field("Organization ID", "For the Platform API."),
        "environment_id": _field("Environment ID", "For the Platform API."),
        "platform_conn_id": _field("Platform connection", "The connection whose key may use the Platform API."),
        "auth_url": _field("Token URL", "On the host's own origin. By default {host}/v2/auth/token."),
        "audience": _field("Audience", "The assertion's aud. By default the token URL."),
        "scope": _field("Scope", "Sent only when set."),
        "headers": {
            "label": "Headers",
            "description": "Sent with every request; never Authorization or Host.",
            "schema": {"type": ["object", "null"]},
        },
        "meta": {
            "label": "Meta",
            "description": "Defaults for the Meta of every Data Model message.",
            "schema": {"type": ["object", "null"]},
        },
        "purpose_of_use": _field(
            "Purpose of use",
            "Why patients' data are used, for the record of disclosures: TREAT, HPAYMT, HOPERAT and so on.",
        ),
        "allow": {
            "label": "Allow",
            "description": "What the connection may be used for; of a list that is left out, everything: "
            '{"interactions": ["search"], "resource_types": ["Patient"], "destinations": ["general"]}.',
            "schema": {"type": ["object", "null"]},
        },
        "link_host_aliases": _field(
            "Link host aliases",
            "Other hosts, separated by commas, that next links may name; rewritten onto our own host.",
        ),
        "blob_url": _field(
            "Upload URL", "Where files are uploaded. By default https://blob.redoxengine.com for Redox's own host."
        ),
        "ca_file": _field("CA bundle", "Path of a bundle of PEM certificates on the worker."),
        "cache_backend": _field(
            "Token cache",
            "Where workers share the access token, sealed. By default variable.",
            enum=["variable", "xcom", "memory"],
        ),
        "timeout": {
            "label": "Read timeout",
            "description": "Seconds to wait for an answer. By default 130: Redox gives up after about 120.",
            "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 3600},
        },
        "requests_per_5min": {
            "label": "Requests in 5 minutes",
            "description": "This task process's share of the 10,000 that Redox allows for an IP address. By default 5000.",
            "schema": {"type": ["integer", "null"], "minimum": 2, "maximum": 10000},
        },
    }


def _ui_field_behaviour() -> dict[str, Any]:
    return {
        "hidden-fields": ["login", "schema"],
        "relabeling": {"password": "Private key", "host": "API base URL"},
        "placeholders": {
            "host": "https://api.redoxengine.com",
            "port": "443 (the Test button needs it)",
            "password": "-----BEGIN PRIVATE KEY----- ... or a JWK",
        },
    }


def _options() -> dict[str, Any]:
    return {
        "output_root": {
            "description": "Where results go when an operator names no output_path, such as s3://conn_id@bucket/redox. "
            "Empty: the folder redox in AIRFLOW_HOME.",
            "version_added": "0.1.0",
            "type": "string",
            "example": "s3://aws_default@my-bucket/redox",
            "default": "",
        },
        "output_root_is_shared": {
            "description": "Say that a file:// output path is mounted by every worker. Without it, such a path is refused "
            "with an executor that runs tasks on other machines.",
            "version_added": "0.1.0",
            "type": "boolean",
            "example": None,
            "default": "False",
        },
        "audit_path": {
            "description": "Where every search, read, download, sending and upload is put on record, as FHIR AuditEvents "
            "that name the patients: a place that only compliance reads. Empty: no record is kept.",
            "version_added": "0.1.0",
            "type": "string",
            "example": "s3://audit_conn@my-audit-bucket/redox",
            "default": "",
        },
        "audit": {
            "description": "Whether what cannot be put on record may be done: required, best_effort, or off. An operator "
            "may be stricter than this, not laxer.",
            "version_added": "0.1.0",
            "type": "string",
            "example": None,
            "default": "required",
        },
        "require_encrypted_output": {
            "description": "Whether results and the record are refused a place in clear, such as a path on a disk or a "
            "bucket that says so: production (what is of that environment), always, or never.",
            "version_added": "0.1.0",
            "type": "string",
            "example": None,
            "default": "production",
        },
        "storage_options": {
            "description": "Options for the drivers of object stores, as JSON by scheme: what a driver's class takes, such "
            "as server-side encryption.",
            "version_added": "0.1.0",
            "type": "string",
            "sensitive": True,
            "example": '{"s3": {"s3_additional_kwargs": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/phi"}}}',
            "default": "",
        },
    }
