"""aiohttp's static files, as a peer: ``python aiohttp_static.py DIRECTORY PORT``; on uvloop, without an access log."""

from __future__ import annotations

import sys

import uvloop
from aiohttp import web

if __name__ == "__main__":
    directory, port = sys.argv[1:]
    application = web.Application()
    application.router.add_static("/", directory)
    web.run_app(
        application, host="127.0.0.1", port=int(port), access_log=None, print=None, loop=uvloop.new_event_loop()
    )
