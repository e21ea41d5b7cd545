"""What runs in the process of a `Twin`: a line of JSON is asked, a line of JSON is answered, until the input ends."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from fsm_core.purity.told import back, context, key, raised, told
from fsm_core.purity.twin import resolved

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Answer what is asked on stdin. What modules print as they are loaded goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            answers.write(json.dumps(_answered(json.loads(line))) + "\n")
            answers.flush()


def _answered(question: dict[str, Any]) -> dict[str, object]:
    try:
        machine = resolved(question["machine"])
        _ = machine.edges  # asking freezes the machine: fallbacks stand among the edges
        if "table" not in question:
            return {"answers": []}
        answers: list[object] = []
        for _ in range(2):  # a function that remembers answers otherwise the second time
            args = back(machine, question["arguments"])
            function = _function(getattr(machine._tables, question["table"])[key(args)])  # noqa: SLF001 - as the guard
            ctx = question["ctx"]
            answers.append(_decided(function, args if ctx is None else [*args, context(ctx)]))
    except Exception as error:  # noqa: BLE001 - it is the guard's to raise
        return {"error": f"{type(error).__name__}: {error}"}
    return {"answers": answers}


def _decided(function: Callable[..., object], args: list[object]) -> object:
    try:
        answer = function(*args)
        if type(answer) is tuple:
            state, actions = answer
            answer = state, list(actions)
        return told(answer)
    except Exception as error:  # noqa: BLE001 - a refusal, or the bug that the first process had
        return raised(error)


def _function(entry: Any) -> Callable[..., object]:
    """The function of what stands in a table."""
    function: Callable[..., object] = getattr(entry, "after", None) or getattr(entry, "function", entry)
    return function
