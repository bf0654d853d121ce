"""The inbox: what Redox sent, on object storage, from the receiver that writes it to the tasks that read it.

    <inbox>/<feed>/messages/d9/<log ID>.json               the message, byte for byte, written once whatever comes twice
                   arrivals/2026-11-25/0243/<name>         its arrival, an empty object; see protocol/arrivals.py
                   quarantine/2026-11-25/<hash>.bin        what was no message
                   consumers/<name>/cursor.json            how far a trigger or sensor has told of them
                   consumers/<name>/claims, done, dead     what became of each message in one task's hands

PHI is in the first and the third only.
"""
