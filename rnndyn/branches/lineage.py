"""The web of points and curves that tracking weaves: who continues as whom. NumPy on the host."""

import collections
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rnndyn.branches.branch import Branch
from rnndyn.branches.events import Event
from rnndyn.core.status import Status

AHEAD, BEHIND = 0, 1  # the segment after a checkpoint, and the one before it
TURNS = ("fold", "branch_point", "border_collision")
NO_POINT = ("no_start", "nonfinite")


@dataclasses.dataclass(eq=False)
class Point:
    """A fixed point at one checkpoint, and the curves through it."""

    checkpoint: int
    z: Any
    hits: int
    ahead: Branch | None = None  # already followed, to correct z
    curves: dict[int, "Curve"] = dataclasses.field(default_factory=dict)
    eigenvalues: Any = None
    residual: Any = None
    exists: bool = True
    name: int = -1


@dataclasses.dataclass(eq=False)
class Curve:
    """A branch over one segment, from the point that it was followed from to where it led."""

    segment: int
    branch: Branch  # its first node is at the origin
    origin: Point
    end: Point | None
    reason: str

    def changes(self) -> list[int]:
        """For each event by how much it changes the number of points on this curve."""
        return [_change(self.branch, event) for event in self.branch.events]

    def turn(self, point: Point) -> float:
        """Where the curve first turns back, seen from one of its ends."""
        turns = [e for e, n in zip(self.branch.events, self.changes(), strict=True) if n]
        if turns:
            s = float(turns[0 if point is self.origin else -1].parameter)
        else:
            inward = np.min if self.segment < point.checkpoint else np.max
            s = float(inward(self.branch.parameter))
        return self.segment + s


@dataclasses.dataclass(eq=False)
class Happening:
    """An event, as it is put together from the curves that meet in it."""

    kind: str
    place: float
    z: Any
    change: int
    status: int
    reason: str = ""
    bifurcation: Event | None = None
    points: set[int] = dataclasses.field(default_factory=set)
    curves: set[int] = dataclasses.field(default_factory=set)


class Web:
    """All points that are known at each checkpoint, and the curves between them.

    `follow(k, z, start, fine)` is the Branch over segment k from z at s = start.
    """

    def __init__(self, checkpoints: int, follow: Callable, atol: float, *, relative: bool):
        self.checkpoints, self._follow = checkpoints, follow
        self._atol, self._relative = atol, relative
        self._known: list[list[Point]] = [[] for _ in range(checkpoints)]
        self._curves: list[Curve] = []
        self._open: collections.deque[tuple[Point, int]] = collections.deque()

    def points(self) -> Iterator[Point]:
        for known in self._known:
            yield from known

    def add(self, checkpoint: int, z: Any, hits: int = 0) -> Point:
        """The known point at z, or a new one, whose curves are then still to be followed."""
        for point in self._known[checkpoint]:
            size = max(1.0, float(np.max(np.abs(z)))) if self._relative else 1.0
            if np.linalg.norm(point.z - z) <= self._atol * size:
                point.hits += hits
                return point
        point = Point(checkpoint, z, hits)
        self._known[checkpoint].append(point)
        if checkpoint < self.checkpoints - 1:
            self._open.append((point, AHEAD))
        if checkpoint > 0:
            self._open.append((point, BEHIND))
        return point

    def start(self, z: Any) -> None:
        """Add a point at the first checkpoint, corrected to a fixed point where it is near one."""
        branch = self._follow(0, z, 0.0, False)
        self.add(0, branch.z[0]).ahead = branch

    def grow(self) -> None:
        """Follow what is still open, until every known point has its curves."""
        while self._open:
            point, side = self._open.popleft()
            if side not in point.curves:
                self._walk(point, side, fine=False)

    def _walk(self, point: Point, side: int, *, fine: bool) -> None:
        segment = point.checkpoint - side
        known = point.ahead if side == AHEAD and not fine else None
        branch = known or self._follow(segment, point.z, float(side), fine)
        # Followed from s = 1 the branch runs backwards: its last node is the start.
        branch = branch if side == AHEAD else _reversed(branch)
        reason = branch.stop[1]
        point.exists &= not (reason in NO_POINT and branch.parameter.size == 1)
        if point.exists:
            point.z, point.eigenvalues = branch.z[0], branch.eigenvalues[0]
            point.residual = branch.residual[0]
        end, arrival = None, side
        if reason in ("left_span", "parameter_ignored"):
            s = round(float(branch.parameter[-1]))
            s = 1 - side if reason == "parameter_ignored" else s
            end, arrival = self.add(segment + s, branch.z[-1]), s
            end.eigenvalues, end.residual = branch.eigenvalues[-1], branch.residual[-1]
            if end is point or arrival in end.curves:
                if not fine:
                    return self._walk(point, side, fine=True)
                end, reason = None, "conflict"
        curve = Curve(segment, branch, point, end, reason)
        self._curves.append(curve)
        point.curves[side] = curve
        if end is not None:
            end.curves[arrival] = curve

    def name(self) -> int:
        """Give one name to what is connected from checkpoint to checkpoint; how many there are."""
        count = 0
        for point in self.points():
            before = _other(point, BEHIND)
            if before is not None and before.checkpoint < point.checkpoint:
                point.name = before.name
            else:
                point.name, count = count, count + 1
        return count

    def status(self, point: Point) -> int:
        codes = [int(curve.branch.status) for curve in point.curves.values() if curve.end is None]
        conflict = any(curve.reason == "conflict" for curve in point.curves.values())
        return min([*codes, int(Status.MAX_STEPS) if conflict else 0])

    def life(self, count: int) -> np.ndarray:
        """Where each name begins and where it ends, shape (count, 2)."""
        life = np.full((count, 2), np.nan)
        for point in self.points():
            for column, side in enumerate((BEHIND, AHEAD)):
                curve = point.curves.get(side)
                if curve is None:
                    life[point.name, column] = point.checkpoint
                elif curve.end is None:
                    life[point.name, column] = curve.segment + float(curve.branch.parameter[-1])
                elif curve.end.checkpoint == curve.origin.checkpoint:
                    life[point.name, column] = curve.turn(point)
        return life

    def events(self) -> list[Happening]:
        """All events by place; a branch point, where curves cross, is one event."""
        found: list[Happening] = []
        for number, curve in enumerate(self._curves):
            names = {point.name for point in (curve.origin, curve.end) if point is not None}
            for event, change in zip(curve.branch.events, curve.changes(), strict=True):
                place = curve.segment + float(event.parameter)
                seen = Happening(event.kind, place, event.z, 0, int(event.status))
                seen.bifurcation = event
                same = _alike(found, seen, number)
                if same is None:
                    found.append(seen)
                    same = seen
                same.points |= names
                same.change += change if number not in same.curves else 0
                same.curves.add(number)
            if curve.end is None:
                found.append(_loose(curve, names, self.status(curve.origin)))
        return sorted(found, key=lambda event: event.place)


def _other(point: Point, side: int) -> Point | None:
    curve = point.curves.get(side)
    if curve is None:
        return None
    return curve.end if curve.origin is point else curve.origin


def _loose(curve: Curve, names: set[int], status: int) -> Happening:
    """The end of a curve that leads nowhere."""
    vanished = curve.segment == curve.origin.checkpoint
    return Happening(
        kind="vanished" if vanished else "appeared",
        place=curve.segment + float(curve.branch.parameter[-1]),
        z=curve.branch.z[-1],
        change=int(curve.origin.exists) * (-1 if vanished else 1),
        status=status,
        reason=curve.reason,
        points=names,
    )


def _alike(found: list[Happening], seen: Happening, number: int) -> Happening | None:
    """The same event, met on another curve."""
    reach = np.cbrt(np.finfo(seen.z.dtype).eps) * (1 + np.max(np.abs(seen.z)))
    for other in found:
        same = other.kind == seen.kind and other.curves != {number}
        if same and max(abs(other.place - seen.place), np.max(np.abs(other.z - seen.z))) <= reach:
            return other
    return None


def _change(branch: Branch, event: Event) -> int:
    """2 where the branch turns at a minimum of its parameter, -2 at a maximum, else 0."""
    if event.kind not in TURNS:
        return 0
    far = np.abs(branch.parameter - event.parameter) + np.max(np.abs(branch.z - event.z), axis=1)
    nearest, last = int(np.argmin(far)), branch.parameter.size - 1
    around = branch.parameter[[max(nearest - 1, 0), min(nearest + 1, last)]] - event.parameter
    return 2 * int(np.all(around > 0)) - 2 * int(np.all(around < 0))


def _reversed(branch: Branch) -> Branch:
    return dataclasses.replace(
        branch,
        parameter=branch.parameter[::-1],
        z=branch.z[::-1],
        eigenvalues=branch.eigenvalues[::-1],
        stable=branch.stable[::-1],
        residual=branch.residual[::-1],
        events=branch.events[::-1],
        stop=branch.stop[::-1],
    )
