"""The ground floor: what OAuth, FHIR and Redox say.

Pure: no I/O, no Airflow; clock and randomness are arguments. What must be done is yielded, what happened is sent back.

    one request      effects, exchange, outcomes, failures, pacing, allowance
    who asks         settings, keys, assertion, token, sharing
    what is asked    calls, raw, accounted, answers
    FHIR             fhir, pages, paging, terms, gathered, counting, windows, cohort, documents, message_header, validation
    Data Model       data_model, datamodels, destinations, uploads, pointers
    Platform API     platform, delivery, looking
    what is pushed   inbound, arrivals
    who is told      disclosure, patients, deidentify
    texts            jsontext, jsonsource, values, instants
"""
