"""The web server as several processes on one address; the twin of websrv/workers.py, over the book's pool (p. 289).

Facts
    - What is shared is as there: the numbers, the clients, the bound on programs; and so is who accepts.
    - Python lets one thread of a process run at a time, so 8 threads keep one core busy.
    - A child of fork has one thread, whichever called; the locks of the others stay locked in it for ever.
Consequence
    Processes are what gives the twin a second core; and the one that forks may never have had a second thread.
Decision
    Threads, log and directory are made in the worker, after the fork. The parent has none: its pool's loop is all.
Price
    When a worker is killed, the parent kills what that had started; when the parent is killed, nobody does: the other
    shell has its zygote for that.

Calling sequence: new -> run.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from functools import partial

from aiolsp.blocking.mechanisms.intake import Intake
from aiolsp.blocking.mechanisms.processes import ProcessPool
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.websrv import cgi
from aiolsp.blocking.websrv.readiness import ReadinessLoop, accepted
from aiolsp.blocking.websrv.service import SMALL, Service
from aiolsp.linux.listener import Address
from aiolsp.sansio.pool import Worker
from aiolsp.static import access_log, pages
from aiolsp.static.commons import Commons
from aiolsp.static.ending import END
from aiolsp.static.policy import ScriptDirectoryError
from aiolsp.websettings import Settings
from aiolsp.website import open_root

log = logging.getLogger("aiolsp.websrv")

_BEFORE_THE_FORK = (access_log, cgi, pages)
"""What some settings ask for (service.py): a worker that comes later shares these modules, and of this version."""


class Workers:
    """*count* workers that serve *root* to who connects to *listeners*, and twice as many while they are replaced.

    With programs (CGI), for a process that has no other children. Raises OSError if there is not enough shared memory.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        listeners: Sequence[socket.socket],
        settings: Settings,
        *,
        count: int,
        accept: str,
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
            shared=(self._commons.programs.fileno(),),
            adopt=settings.cgi or settings.cgi_dir is not None,
        )
        self.pool.plan.on_gone = self._ended

    @property
    def addresses(self) -> list[Address]:
        """Where they can be reached."""
        return self.pool.addresses

    def run(self, signals: SelfPipe) -> None:
        """Until SIGINT or SIGTERM, replacing the workers at each SIGHUP; for a process without other threads."""
        with self.pool:
            self.pool.run(signals)

    def _ended(self, worker: Worker) -> None:
        self._commons.vacate(worker.place)

    def _serve(self, intake: Intake) -> None:
        """What each worker does."""
        shared = self._commons.of(intake.place)
        try:
            root = open_root(self._root, self._settings, small=SMALL)
            service = Service(root, self._settings, shared)
        except (OSError, ScriptDirectoryError) as error:
            reason = (error.strerror or "").lower() if isinstance(error, OSError) else error
            log.error("cannot serve %s: %s", self._root, reason)
            raise SystemExit(1) from None
        service.publish()
        intake.start(service.poller, partial(accepted, service))
        loop = ReadinessLoop(service, intake)
        while not intake.draining:
            loop.turn()
        loop.finish(self._settings.grace)
