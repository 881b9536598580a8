"""The web server as several processes on one address: a parent that serves nobody, workers that share what they count.

Book p. 289 (the pool of processes) over p. 301 (the pool of threads).

Facts (2 workers, 2 cores, this kernel)
    - Most clients keep their connection: who gets 16 of them at once serves these for long. Of such a burst ``child``
      gave 0-4 to one worker and 12-16 to the other, ``reuseport`` 6-10 by its hash, ``parent`` 8 and 8.
    - One connection with one request costs 210-230 us of CPU time in all under ``child`` and ``reuseport``, about what
      it costs one process alone; 320-360 us under ``parent``, whose own process has the rest. A request more on it
      costs 10-15 us.
Consequence
    With connections that stay, an even spread is worth more than a cheap start; without, ``reuseport`` is.
Decision
    ``--accept parent`` by default. Each worker is the whole server, with a loop, threads and a cache of its own. In one
    shared memory stand the rows of their numbers (sansio/scoreboard.py), so that any of them can answer for the status
    of all, and of their clients (sansio/tally.py), so that the limits hold for all together; so does the bound on
    programs (linux/places.py).
Price
    Threads, queue and cache once for each worker; who opens a connection for each request pays for the parent as well.

Calling sequence: new, before any loop (it forks) -> run -> close.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from functools import partial

from aiolsp.linux.listener import Address
from aiolsp.mechanisms.intake import Intake
from aiolsp.mechanisms.processes import ProcessPool
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.sansio.pool import Worker
from aiolsp.static import access_log, pages
from aiolsp.static.commons import Commons
from aiolsp.static.ending import END
from aiolsp.static.policy import ScriptDirectoryError
from aiolsp.websettings import Settings
from aiolsp.website import open_root
from aiolsp.websrv import cgi
from aiolsp.websrv.connection import accepted
from aiolsp.websrv.server import finish
from aiolsp.websrv.service import Service

log = logging.getLogger("aiolsp.websrv")

_BEFORE_THE_FORK = (access_log, cgi, pages)
"""What some settings ask for (service.py): a worker that comes later shares these modules, and of this version."""


class Workers:
    """*count* workers that serve *root* to who connects to *listeners*, and twice as many while they are replaced.

    Raises RuntimeError beside threads, OSError if there is not enough shared memory, or no process to be had.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        listeners: Sequence[socket.socket],
        settings: Settings,
        *,
        count: int,
        accept: str,
        loop: str = "auto",
    ) -> None:
        self._root = root
        self._settings = settings
        self._commons = Commons(2 * count, settings.max_children)
        self.pool = ProcessPool(
            listeners,
            self._serve,
            processes=count,
            max_processes=2 * count,
            accept=accept,
            grace=settings.grace + END,
            loop=loop,
        )
        self.pool.plan.on_gone = self._ended

    @property
    def addresses(self) -> list[Address]:
        """Where they can be reached."""
        return self.pool.addresses

    async def run(self, signals: SignalReceiver) -> None:
        """Until SIGINT or SIGTERM, replacing the workers at each SIGHUP. Raises PoolFailed."""
        async with self.pool:
            await self.pool.run(signals)

    def close(self) -> None:
        """Leave no process behind, though `run` was never called. May be called again."""
        self.pool.zygote.close()

    def _ended(self, worker: Worker) -> None:
        self._commons.vacate(worker.place)

    async def _serve(self, intake: Intake) -> None:
        """What each worker does."""
        shared = self._commons.of(intake.place)
        try:
            root = open_root(self._root, self._settings, small=self._settings.cache_file)
            service = Service(root, self._settings, shared)
        except (OSError, ScriptDirectoryError) as error:
            reason = (error.strerror or "").lower() if isinstance(error, OSError) else error
            log.error("cannot serve %s: %s", self._root, reason)
            raise SystemExit(1) from None
        service.publish()
        await intake.run(partial(accepted, service))
        await finish(service, self._settings.grace)
