"""Linux high-performance server programming, asyncio-native: every mechanism of the book, beside its blocking twin."""

from __future__ import annotations

__version__ = "0.1.0"
