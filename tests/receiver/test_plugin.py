"""The receiver as Airflow 3's server has it: a plugin, mounted below a path of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.receiver import TOKEN

pytest.importorskip("fastapi", reason="Airflow 2 mounts no ASGI application")
SERVED = """
import asyncio, json, sys
import httpx
from airflow import plugins_manager
from fastapi import FastAPI

if hasattr(plugins_manager, "get_fastapi_plugins"):
    found = plugins_manager.get_fastapi_plugins()[0]
else:  # Airflow 3.1
    plugins_manager.initialize_fastapi_plugins()
    found = plugins_manager.fastapi_apps
app = FastAPI()
mounted = [one for one in found if one["name"] == "Redox inbox"]
for one in mounted:
    app.mount(one["url_prefix"], one["app"])

async def push():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://airflow") as client:
        message = {"Meta": {"DataModel": "Results", "EventType": "New", "Logs": [{"ID": "l1"}]}}
        headers = {"verification-token": sys.argv[1]}
        answers = [await client.post(path, json=message, headers=headers) for path in
                   ("/redox-inbox/results", "/redox-inbox/", "/redox-inbox/a/b", "/results")]
        health = await client.get("/redox-inbox/health")
        return [answer.status_code for answer in (*answers, health)]

print(json.dumps(asyncio.run(push())))
"""


def served(home: Path, **settings: str) -> list[int]:
    """Mount what Airflow finds of plugins as its server does, and push to it."""
    told = {f"REDOX_RECEIVER_{name}": value for name, value in settings.items()}
    env = {**os.environ, "AIRFLOW_HOME": str(home), **told}
    done = subprocess.run([sys.executable, "-c", SERVED, TOKEN], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    answers: list[int] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_it_is_mounted_where_it_is_set_up(tmp_path: Path):
    """At /redox-inbox/<feed>, without the server's lifespan, its health included."""
    assert served(tmp_path, INBOX=f"{tmp_path}/inbox", TOKENS=TOKEN) == [200, 200, 404, 404, 200]
    assert [path.parts[-4] for path in sorted((tmp_path / "inbox").rglob("l1.json"))] == ["default", "results"]


@pytest.mark.parametrize("settings", [{}, {"INBOX": "/inbox", "TOKENS": "short"}])
def test_it_is_not_there_where_it_is_not(tmp_path: Path, settings: dict[str, str]):
    """Nothing is mounted, and a wrong setting does not keep Airflow's server from starting."""
    assert served(tmp_path, **settings) == [404] * 5
