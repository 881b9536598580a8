"""starlette's static files, as a peer, for an ASGI server that runs ``starlette_static:app``.

The directory is that of the variable COMPARE_SITE: an ASGI server hands no arguments on.
"""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

app = Starlette(routes=[Mount("/", StaticFiles(directory=os.environ.get("COMPARE_SITE", ".")))])
