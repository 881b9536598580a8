"""When a second signal to stop means more than the first.

Who stops a server often sends the signal twice at one moment, and means it once: timeout(1) sends it to the program and
then to its process group; a shell whose terminal hangs up passes SIGHUP on, and the kernel sends it as well; a wrapper
passes on the SIGINT that Ctrl-C has sent to all of the foreground already. If the second cut what is in flight, the
first would never let it finish. A person who presses Ctrl-C again takes longer. What counts is when they came: to
begin to close 10,000 connections may keep a server from hearing the second for longer than that.
"""

ECHO = 0.1
"""Seconds from the first signal in which others are the same one again."""
