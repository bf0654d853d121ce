"""The ground floor: what OAuth, FHIR and Redox say.

Pure: no I/O, no Airflow; clock and randomness are arguments. What must be done is yielded, what happened is sent back.

    one request      effects, exchange, outcomes, failures, pacing, allowance
    who asks         settings, keys, key_material, assertion, token, sharing
    what is asked    calls, raw, accounted, answers, acceptance
    FHIR             fhir, pages, paging, terms, gathered, judging, filters, evidence, unsupported, totals
    compared         comparing, datespans
    more of FHIR     resource_types, counting, windows, cohort, message_header, validation
    documents        documents, attachments, contents, integrity, media_types
    Data Model       data_model, datamodels, destinations, uploads, pointers
    Platform API     platform, delivery, looking
    what is pushed   inbound, arrivals
    who is told      disclosure, patients, compartment, identities, deidentify
    texts            jsontext, jsonsource, values, instants, ids
"""
