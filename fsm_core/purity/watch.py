"""Watching one call of one function: what it may not call is refused at the line that calls it.

Two ways to see, because each is blind where the other looks. An audit hook hears of files, sockets and processes before they
are opened; it can never be removed, and does nothing while its thread watches no call. A profile function hears of each
call, so of clocks and generators too; what was installed before is put back.
"""

from __future__ import annotations

import gc
import os
import sys
import sysconfig
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from fsm_core.errors import Impure
from fsm_core.purity.forbidden import by_audit, by_builtin, by_python

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

P = ParamSpec("P")
R = TypeVar("R")

HERE = f"{Path(__file__).parents[1]}{os.sep}"
"""Where fsm-core's own code lives."""

LIBRARIES = (
    *(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    HERE,
    "<",  # code without a file: `__init__` of a dataclass, importlib
)
"""Where code lives that is not the machine's own."""


class _Here(threading.local):
    """The call that this thread watches."""

    watch: Watch | None = None


_here = _Here()


def watching() -> bool:
    """Whether this thread is within a watched call."""
    return _here.watch is not None


class Watch:
    """One call of one function under watch. `function` is its place, `found` the first thing that it did wrong."""

    def __init__(self, function: str) -> None:
        self.function = function
        self.found: Impure | None = None

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `function`. Raises Impure, also if the function swallows it; and what the function raises.

        Garbage is not collected meanwhile: a finaliser of something else, which may close its files, would be taken for
        the function's own doing.
        """
        _install()
        before, collecting = sys.getprofile(), gc.isenabled()
        gc.disable()
        _here.watch = self
        sys.setprofile(self._profile)
        try:
            answer = function(*args, **kwargs)
        except Exception:
            if self.found is not None:
                raise self.found from None
            raise
        finally:
            _here.watch = None
            _put_back(before)
            if collecting:
                gc.enable()
        if self.found is not None:
            raise self.found
        return answer

    def audited(self, event: str) -> None:
        """Judge an audit event. Raises Impure."""
        call = by_audit(event)
        if call is not None:
            self._forbid(call, sys._getframe(2))  # noqa: SLF001 - the frame that raised the event, below the hook's

    def _profile(self, frame: FrameType, event: str, arg: object) -> None:
        call = None
        if event == "c_call":
            call = by_builtin(arg, directly=_is_own(frame))
        elif event == "call":
            call = by_python(frame)
        if call is not None:
            self._forbid(call, frame)

    def _forbid(self, call: str, frame: FrameType) -> None:
        """Raises Impure at the innermost line of the machine's own code; lets pass what an import does."""
        own: FrameType | None = None
        via, at = frame, cast("FrameType | None", frame)
        while at is not None and at.f_code is not _RUN:
            if at.f_code.co_filename.startswith("<frozen importlib"):
                return  # `strptime` imports too: what a module does as it is loaded is not the transition's doing
            if own is None:
                own, via = (at, via) if _is_own(at) else (None, at)
            at = at.f_back
        if at is None or own is None:
            return  # not below the call: the guard's own work
        by = f"in {via.f_globals.get('__name__')}.{via.f_code.co_qualname}" if via is not own else ""
        impure = Impure(self.function, call, f"{own.f_code.co_filename}:{own.f_lineno}", detail=by)
        self.found = self.found or impure
        raise impure


_RUN = Watch.run.__code__


def _is_own(frame: FrameType) -> bool:
    """Whether the frame's code is no library's: the machine's (also of an installed one), or its application's."""
    back, file = frame.f_back, frame.f_code.co_filename
    if not file.startswith(LIBRARIES):
        return True
    return back is not None and back.f_code.co_filename.startswith(HERE) and not file.startswith(HERE)


@cache
def _install() -> None:
    """Add the audit hook, once in the process's life."""

    # Bound as defaults: while the interpreter shuts down, the module's names are gone and the hook is still called.
    def hook(event: str, _args: object, here: _Here = _here) -> None:
        if here.watch is not None:
            here.watch.audited(event)

    sys.addaudithook(hook)


def _put_back(before: object) -> None:
    """Install the profiler that was there. cProfile's is no function: it is switched on again."""
    if before is None or callable(before):
        sys.setprofile(before)
    else:
        before.enable()  # type: ignore[attr-defined]
