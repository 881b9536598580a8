"""The labs, one for each program of the book."""

from __future__ import annotations

from aiolsp.lab.scenario import Lab
from aiolsp.lab.scenarios import echo, trigger

LABS: dict[str, Lab] = {lab.name: lab for lab in (trigger.LAB, echo.LAB)}
