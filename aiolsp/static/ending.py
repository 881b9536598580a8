"""How long the end of a web server may take, beside the grace that it is given: the same in both shells."""

FRESH = 0.5
"""Seconds that a stopping server gives a connection on which nothing has come yet: its request may be on its way."""

STUCK = 0.5
"""Seconds that a closing server waits for threads: all are idle then, but those that a broken disk holds."""

END = 2.0
"""Seconds on top of the grace before a worker is killed: it cuts what is left by itself then, and writes its log."""
