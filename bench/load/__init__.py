"""The load generator's parts: plan, schedule, stop rule, clients, record, summary, report.

A run is *schedule x stop rule x client* over one record type, in three steps that do not mix: **record** (``dispatch``,
``wire``, ``aiohttp_client`` fill a ``Record``), **compute** (``summary``, pure), **print** (``report``, pure).
All instants are nanoseconds of ``time.monotonic_ns``, all latencies nanoseconds.
"""
