"""Plots: the curves as pure functions, and files that are what their names say."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stress
from load import options
from load.histogram import Histogram
from load.measurement import Sample
from load.plot import percentile_curve, rate_curve
from load.units import SECOND

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
Serve = Callable[..., Any]


def good(connection: Any, _: int) -> bool:
    connection.sendall(GOOD)
    return True


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=100))
def test_the_curve_rises_to_where_one_answer_lies_beyond(values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    across, up = percentile_curve(histogram)
    assert across == sorted(across) and up == sorted(up) and all(1 < place <= len(values) for place in across)
    for place, milliseconds in zip(across, up, strict=True):
        assert histogram.percentile(100 - 100 / place) == pytest.approx(milliseconds * 1e6)


def test_the_rate_is_that_of_each_sample() -> None:
    samples = [Sample(SECOND // 2, 50, 0, 0, 0), Sample(SECOND, 150, 5, 0, 0), Sample(SECOND, 150, 5, 0, 0)]
    assert rate_curve(samples) == ([0.5, 1.0], [100, 200], [0, 10])


@pytest.mark.parametrize("load", [[], ["--rate", "200", "--fail-if", "errors>0"]])
@pytest.mark.parametrize("form", ["png", "svg"])
def test_a_plot_is_written(serve: Serve, tmp_path: Path, form: str, load: list[str]) -> None:
    pytest.importorskip("matplotlib", reason="pip install 'aiolsp[bench]'")
    file = tmp_path / f"run.{form}"
    assert stress.main([serve(good).url, "-d", "600ms", "-c", "2", "-q", "--plot", str(file), *load]) == 0
    content = file.read_bytes()
    if form == "png":
        assert content.startswith(b"\x89PNG\r\n")
    else:
        assert ElementTree.fromstring(content).tag.endswith("svg")


@pytest.mark.parametrize("arguments", [["--plot", "x.pdf"], ["--plot", "x.svg", "--find-max", "p99<1ms"]])
def test_bad_use_of_plots_is_refused_before_the_load(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = stress.main(["http://127.0.0.1:1/", *arguments])
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    assert status == 2 and "plot" in capsys.readouterr().err


def test_a_missing_matplotlib_is_said_before_the_load(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(options, "find_spec", lambda _: None)
    assert stress.main(["http://127.0.0.1:1/", "--plot", "x.svg"]) == 2
    assert capsys.readouterr().err.startswith("stress.py: matplotlib is not installed")
