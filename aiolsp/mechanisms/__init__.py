"""The book's mechanisms on an asyncio event loop, stock or uvloop."""
