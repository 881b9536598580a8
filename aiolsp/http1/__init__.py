"""HTTP/1.1 (RFC 9110, 9112), bytes <-> messages, no I/O. No asyncio, socket, select, threading, time or os."""
