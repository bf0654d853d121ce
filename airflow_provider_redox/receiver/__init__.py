"""The receiver: what Redox pushes to, so that it can start DAGs. See `python -m airflow_provider_redox.receiver --help`.

A message is answered with 200 when it lies in the inbox, and not before. The receiver runs without Airflow, unless its inbox
names an Airflow connection; Airflow 3's own server can run it as well (`plugin.py`).
"""
