"""How far a run is and how long it still takes; silent for what is over in two seconds."""

import sys
import time
from typing import Any, TextIO

PATIENCE = 2.0  # seconds before anything is shown
LOG_EVERY = 30.0  # seconds between two lines in a log


class Progress:
    """Counts the parts of a run on a stream.

    On a terminal a bar (tqdm, if it is installed) or one line that is rewritten; in a log one
    line every half minute.
    """

    def __init__(self, name: str, total: int, stream: TextIO | None = None):
        self.name, self.total, self.done = name, total, 0
        self.stream = sys.stderr if stream is None else stream
        self.start = self.last = time.monotonic()
        self.terminal = self.stream.isatty()
        self.shown = False
        self.bar = self._bar() if self.terminal else None

    def skip(self) -> None:
        """One part was there already: it says nothing about the time that the others take."""
        self.total -= 1
        if self.bar is not None:
            self.bar.total = self.total
            self.bar.refresh()

    def advance(self, label: str) -> None:
        """One part is done."""
        self.done += 1
        if self.bar is not None:
            self.bar.set_postfix_str(label, refresh=False)
            self.bar.update()
            return
        now = time.monotonic()
        interval = PATIENCE if self.terminal else LOG_EVERY
        if now - self.last >= interval and self.done < self.total:
            self.last = now
            self._say(self.line(now - self.start))

    def line(self, elapsed: float) -> str:
        """How far, and how long still, in words."""
        left = elapsed / max(self.done, 1) * (self.total - self.done)
        return f"{self.name}: {self.done} of {self.total} parts, {duration(left)} left"

    def close(self) -> None:
        """Leave the terminal clean."""
        if self.bar is not None:
            self.bar.close()
        elif self.terminal and self.shown:
            self._say("")

    def _say(self, line: str) -> None:
        self.shown = True
        text = f"\r\x1b[K{line}" if self.terminal else line + "\n"
        self.stream.write(text)
        self.stream.flush()

    def _bar(self) -> Any:
        try:
            from tqdm import tqdm
        except ImportError:
            return None
        return tqdm(
            desc=self.name,
            total=self.total,
            unit="part",
            delay=PATIENCE,
            leave=False,
            file=self.stream,
        )


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(75.2)
    '1 min 15 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
