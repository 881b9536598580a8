"""Have the kernel make room for descriptors before they are needed, since it does so late, and slowly.

Facts (fs/file.c; tried on this kernel)
    - A process has a table of its descriptors, which is doubled when it is full: at 256, 512, 1024 and so on.
    - If the process has threads, that waits until no processor can be reading the old table (RCU). An accept4(2) that
      returned one of these numbers took 14 to 18 ms, in which nobody on the loop was served.
    - The table never gets smaller, but a child of fork(2) has one for what was open.
Decision
    `make_room` while there are no threads yet: it asks for a descriptor at the end of the table, and closes it.
Price
    Eight bytes of the kernel's memory for each place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource


def make_room(count: int) -> None:
    """See to it that *count* descriptors, or all that this process may have, fit the table that the kernel has of them.

    Without one to spare now, nothing is done.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError):
        some = os.open("/", os.O_PATH | os.O_CLOEXEC)
        try:
            os.close(fcntl.fcntl(some, fcntl.F_DUPFD_CLOEXEC, min(count, most) - 1))
        finally:
            os.close(some)
