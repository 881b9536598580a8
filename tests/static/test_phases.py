"""How long a connection may wait, by the clock that the test holds."""

from __future__ import annotations

import pytest

from aiolsp.http1.limits import Limits
from aiolsp.static.phases import Patience, Phase

LIMITS = Limits(head_timeout=3, idle_timeout=5, body_grace=7, body_rate=10, response_grace=11, response_rate=100)


def test_an_idle_connection_has_its_time_from_the_last_activity() -> None:
    patience = Patience(LIMITS, 100)
    assert patience.deadline(101) == 105
    patience.last_activity = 103
    assert patience.deadline(104) == 108


def test_activity_earns_a_head_nothing() -> None:
    patience = Patience(LIMITS, 100)
    patience.enter(Phase.HEAD, 110)
    patience.last_activity = 112
    patience.received += 1000
    assert patience.deadline(112) == 113


def test_a_body_earns_time_with_what_has_come_since_it_began() -> None:
    patience = Patience(LIMITS, 100)
    patience.received += 1000
    patience.enter(Phase.BODY, 110)
    patience.received += 50
    assert patience.deadline(112) == 110 + 7 + 5


def test_what_the_client_has_taken_earns_time_and_what_only_waits_for_it_does_not() -> None:
    patience = Patience(LIMITS, 100)
    patience.enter(Phase.SENDING, 110, untaken=400)
    assert patience.deadline(110, untaken=400) == 121
    patience.written += 600
    assert patience.deadline(112, untaken=1000) == 121
    assert patience.deadline(112, untaken=800) == 123


def test_our_own_disk_is_no_fault_of_the_clients() -> None:
    patience = Patience(LIMITS, 100)
    patience.enter(Phase.ANSWER, 110)
    assert patience.deadline(1000) == 1005


@pytest.mark.parametrize("phase", Phase)
def test_each_phase_has_an_end(phase: Phase) -> None:
    patience = Patience(LIMITS, 100)
    patience.enter(phase, 110)
    assert 110 < patience.deadline(110) < 130
