"""The book's mechanisms without an event loop, under the names they have in ``aiolsp.mechanisms``."""
