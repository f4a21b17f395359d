"""Raw exports in, one clean event log per customer out.

`sources/` opens each kind of export, `cleaning` types and flags its rows, `log` writes the sorted
Parquet log with a manifest that accounts for every row, and `engine` runs it all out of core.
Start reading at `log.write_event_log`.
"""
