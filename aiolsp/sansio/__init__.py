"""Decisions without I/O, shared by both shells of a program. No asyncio, socket, select, threading, time or os."""
