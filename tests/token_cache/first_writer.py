"""Run by test_first_write.py, several at once: a process that needs a token, at a moment that all agree on."""

from __future__ import annotations

import sys
import time

from airflow_provider_redox.hooks.redox import RedoxHook

client = RedoxHook().client
time.sleep(max(0.0, float(sys.argv[1]) - time.time()))
hook = RedoxHook()
sys.stdout.write(hook.get_access_token())
