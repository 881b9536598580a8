"""The comparison of accept modes gives a line of figures that can be."""

from __future__ import annotations

import accept_modes


def test_the_parent_gives_each_child_its_share_and_wakes_for_each_connection() -> None:
    shell, accept, woken, _, _, least, _, most, _, _ = accept_modes.measure("blocking", "parent", 64, 2).split()
    assert (shell, accept, least, most) == ("blocking", "parent", "50", "50") and float(woken) > 1
