"""The ground floor: what OAuth, FHIR and Redox say.

Pure: no I/O, no Airflow; clock and randomness are arguments. What must be done is yielded, what happened is sent back.
"""
