"""Operators: what a DAG author writes. Importing them loads no HTTP client, no cryptography and no storage driver."""
