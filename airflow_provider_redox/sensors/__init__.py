"""Sensors: what a DAG author waits with."""
