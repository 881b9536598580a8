"""The labs, one for each program of the book, in the order of its pages."""

from __future__ import annotations

from aiolsp.lab.scenario import Lab
from aiolsp.lab.scenarios import (
    analyze,
    cgisrv,
    chat,
    echo,
    events,
    idle,
    oneshot,
    oob,
    shmchat,
    trigger,
    websrv,
)

LABS: dict[str, Lab] = {
    module.LAB.name: module.LAB
    for module in (analyze, oob, trigger, oneshot, chat, echo, events, idle, shmchat, cgisrv, websrv)
}
