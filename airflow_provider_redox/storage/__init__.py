"""Store what must outlive a process: results, manifests and send records, wherever Airflow's ObjectStoragePath can write.

Where state lives: results under the output root the author chose; a manifest and, until a result is complete, its
staged parts beside them under `_redox/`. Nothing is kept on a worker's own disk.

    results    results, tries, sweeping, parts, checkpoint, watermark, layout, shapes, documents, bodies
    reading    reading, merging, inputs, rows, tables, members
    sends      send_record, send_attempts, send_marker, send_batch, send_ledger, sent_logs, moved
    inbox      a room of its own
    record     audit_log, encryption, holdings, purging, purge_journal, purge_misses, erasing
    stores     files, disk, stores, urls, configured
"""
