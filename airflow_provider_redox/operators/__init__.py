"""Operators: what a DAG author writes. Importing them loads no HTTP client, no cryptography and no storage driver.

Their work is in `pulls/` and `sends/`, which are imported when a task runs.
"""
