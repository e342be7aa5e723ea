"""Progress says how long it still takes, and says nothing where nobody waits."""

import io
import sys
import types

import pytest

from rnndyn.core import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.seconds)
    return now


def work(stream, clock, seconds_each, parts=4):
    shown = progress.Progress("gated", parts, stream)
    for _ in range(parts):
        clock.seconds += seconds_each
        shown.advance("lstm")
    shown.close()
    return stream.getvalue()


def test_a_log_gets_one_line_every_half_minute(clock):
    said = work(io.StringIO(), clock, 20.0, parts=5)
    assert said == "gated: 2 of 5 parts, 1 min 0 s left\ngated: 4 of 5 parts, 20 s left\n"


def test_a_short_run_in_a_log_says_nothing(clock):
    assert work(io.StringIO(), clock, 5.0) == ""


def test_a_terminal_without_tqdm_gets_one_line_rewritten_and_removed(clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    said = work(Terminal(), clock, 3.0)
    assert "\r\x1b[Kgated: 1 of 4 parts, 9 s left" in said
    assert said.endswith("\r\x1b[K")
    assert "\n" not in said


def test_a_terminal_with_a_short_run_says_nothing(clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert work(Terminal(), clock, 0.1) == ""


def test_a_terminal_with_tqdm_gets_a_bar_with_the_time_left():
    pytest.importorskip("tqdm")
    stream = Terminal()
    shown = progress.Progress("gated", 2, stream)
    shown.bar.delay = 0
    shown.bar.mininterval = 0
    shown.advance("lstm")
    shown.bar.refresh()
    shown.close()
    assert "gated" in stream.getvalue() and "1/2" in stream.getvalue()
    assert "lstm" in stream.getvalue()


def test_parts_that_were_there_do_not_shorten_the_estimate(clock):
    shown = progress.Progress("gated", 4, io.StringIO())
    shown.skip()
    shown.skip()
    clock.seconds = 10.0
    shown.advance("lstm")
    assert shown.line(10.0) == "gated: 1 of 2 parts, 10 s left"


@pytest.mark.parametrize("seconds, words", [(0.4, "0 s"), (59.6, "1 min 0 s"), (75, "1 min 15 s")])
def test_durations(seconds, words):
    assert progress.duration(seconds) == words
