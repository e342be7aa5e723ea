"""Events above a curve: each in the row of its kind, at its step, pointing its way."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from rnndyn import plot


@pytest.fixture
def ax():
    made = Figure().subplots()
    made.plot([0, 100], [1.0, 0.5])
    return made


def event(kind, place, change=0):
    return SimpleNamespace(kind=kind, place=np.asarray(place), change=change)


TRACK = SimpleNamespace(
    events=(
        event("fold", 0.5, 2),
        event("flip", 1.25),
        event("fold", 1.5, -2),
        event("fold", 1.75, 2),
        event("vanished", 2.0, -1),
    )
)


def test_places_are_drawn_at_training_steps(ax):
    drawn = plot.events(ax, TRACK, steps=[0, 100, 300])
    markers = [artist for artist in drawn if getattr(artist, "get_linestyle", str)() == "None"]
    shown = {line.get_marker(): line.get_xdata().tolist() for line in markers[:2]}
    assert shown == {"^": [50.0, 250.0], "v": [200.0]}
    assert markers[2].get_xdata().tolist() == [150.0]
    assert [line.get_marker() for line in markers[2:]] == ["o", "v"]


def test_rows_stand_above_the_axes_in_a_fixed_order(ax):
    before = ax.get_ylim()
    drawn = plot.events(ax, TRACK)
    rows = {text.get_text(): text.xy[1] for text in drawn[-3:]}
    assert list(rows) == ["fold", "flip", "lost"]
    assert 1 < rows["fold"] < rows["flip"] < rows["lost"]
    assert ax.get_ylim() == before
    assert not any(line.get_clip_on() for line in drawn[:4])


def test_kinds_can_be_chosen_and_unknown_ones_are_drawn_too(ax):
    track = SimpleNamespace(events=(event("border_collision", 1.0), event("fold", 2.0, 2)))
    drawn = plot.events(ax, track, kinds=("flip", "border_collision"), names=True)
    assert [text.get_text() for text in drawn[-2:]] == ["flip", "border collision"]
    assert drawn[0].get_xdata().tolist() == [1.0]
    assert to_hex(drawn[0].get_color()) == plot.COLOURS["grey"].lower()


def test_without_events_nothing_is_drawn(ax):
    assert plot.events(ax, SimpleNamespace(events=())) == []
