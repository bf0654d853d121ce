"""Write `.env` for docker-compose.yaml: a secret of its own for each thing that needs one. `make env`.

An existing file is left alone: with another Fernet key or database password what lies in the volumes cannot be read.
The file is for its owner's eyes only, and git does not see it.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
import uuid
from pathlib import Path

from airflow_provider_redox.cli.jwks import public_jwks
from airflow_provider_redox.cli.keygen import new_key
from airflow_provider_redox.sandbox.names import DESTINATIONS, ENVIRONMENT_ID, ORGANIZATION_ID

HEADER = "# Made by `make env`. Secrets: keep it to yourself. A new one does not fit volumes that an old one filled.\n"


def environment() -> dict[str, str]:
    """Draw every secret."""
    client_id, key = str(uuid.uuid4()), new_key("RS384")
    redox = {
        "conn_type": "redox",
        "host": "http://redox",
        "port": 8089,
        "password": key.pem(),
        "extra": {
            "client_id": client_id,
            "kid": key.kid,
            "allow_http": True,  # between two containers of one machine; never otherwise
            "destination": "general",
            "environment": "Development",
            "destinations": DESTINATIONS,
            "organization_id": ORGANIZATION_ID,
            "environment_id": ENVIRONMENT_ID,
        },
    }
    aws = {
        "conn_type": "aws",
        "login": "redox",
        "password": secrets.token_urlsafe(32),
        "extra": {"endpoint_url": "http://s3:5000", "region_name": "us-east-1"},
    }
    driver = {"key": aws["login"], "secret": aws["password"], "endpoint_url": "http://s3:5000"}
    return {
        "POSTGRES_PASSWORD": secrets.token_urlsafe(32),
        "REDIS_PASSWORD": secrets.token_urlsafe(32),
        "AIRFLOW_FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "AIRFLOW_JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW_API_SECRET_KEY": secrets.token_urlsafe(32),
        "AIRFLOW_ADMIN_PASSWORD": secrets.token_urlsafe(16),
        "AIRFLOW_CONN_REDOX_DEFAULT": json.dumps(redox),
        "AIRFLOW_CONN_AWS_RESULTS": json.dumps(aws),
        "REDOX_RECEIVER_STORAGE_OPTIONS": json.dumps(driver),
        "REDOX_RECEIVER_TOKENS": secrets.token_urlsafe(32),
        "REDOX_SANDBOX_CLIENT": json.dumps({"client_id": client_id, "jwks": public_jwks((key,))}),
    }


def write(path: Path) -> None:
    """Write the file, for its owner only. Raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(HEADER)
        # In single quotes compose takes a value as it stands; none of these holds one.
        file.writelines(f"{name}='{value}'\n" for name, value in environment().items())


def main() -> int:
    """Write `.env` into the checkout, or into the file that is named."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / ".env"
    try:
        write(path)
    except FileExistsError:
        print(f"{path.name} is there already and stays as it is. Delete it, and the volumes, for new secrets.")
        return 0
    print(f"Wrote {path.name}. Now: docker compose up --build --wait")
    return 0


if __name__ == "__main__":
    sys.exit(main())
