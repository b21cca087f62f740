"""What torch.compile has to say while a run is trained, in lines for its user in place of torch's log."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = ("torch", "torch._dynamo", "torch._inductor")
ASKED = "TORCH_LOGS"
"""Of the environment: who has set it wants the log as it is."""

SETTLED = 2
"""Steps after which everything is compiled, where inputs keep their shapes."""

GIVEN_UP = re.compile(
    r"hit config\.\w+ \((\d+)\)\s+function: '([^']*)'.*?last reason: (?:\d+/\d+: )?([^\n#]*)", re.DOTALL
)


class CompilerMessages:
    """Takes the warnings of torch.compile out of the log and counts them, and the graphs that it compiles late.

    Errors stay in the log, and so does all where TORCH_LOGS asks for it.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.last: logging.LogRecord | None = None
        self.found: Counter[str] = Counter()

    @contextmanager
    def of_step(self) -> Iterator[None]:
        """Take what is logged in the block, a step."""
        handlers = [] if os.environ.get(ASKED) else [h for name in LOGGERS for h in logging.getLogger(name).handlers]
        before, self.steps = compiled_graphs(), self.steps + 1
        for handler in handlers:
            handler.addFilter(self._is_logged)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(self._is_logged)
        if self.steps > SETTLED and (late := compiled_graphs() - before):
            self.found[
                f"compiled {late} more graphs, for layers that ran the first time or inputs of another shape"
            ] += 1

    def _is_logged(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING or not record.name.startswith(LOGGERS[1:]):
            return True
        if record is not self.last:  # which several handlers are given
            self.last = record
            self.found[in_one_line(record.getMessage())] += 1
        return False

    def lines(self, step: int) -> Iterator[str]:
        """Yield a line for each message of ``step``, with how often it came."""
        for words, times in self.found.items():
            yield f"--compile: step {step}: {words}" + (f" ({times} times)" if times > 1 else "")
        self.found.clear()


def compiled_graphs() -> int:
    """Return how many graphs torch.compile has compiled in this process."""
    from torch._dynamo.utils import counters  # takes a second

    return int(counters["stats"]["unique_graphs"])


def in_one_line(message: str) -> str:
    r"""Return a message of torch.compile in one line.

    >>> in_one_line("torch._dynamo hit config.cache_limit (8)\n  function: 'f' (a.py:3)\n  last reason: 0/7: n == 1")
    'torch compiled `f` 8 times, for inputs that differ (the last time: n == 1), and runs it uncompiled from now on'
    """
    if found := GIVEN_UP.search(message):
        limit, function, reason = found.groups()
        often = f"torch compiled `{function}` {limit} times, for inputs that differ (the last time: {reason.strip()})"
        return f"{often}, and runs it uncompiled from now on"
    return next((line.strip() for line in message.splitlines() if line.strip()), "a warning without words")
