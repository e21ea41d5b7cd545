"""The other process: the same machines under other hashes, and the questions that it is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from fsm_core.effects import Effects
from fsm_core.errors import ConfigurationError
from fsm_core.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from fsm_core.purity.told import Given
    from fsm_core.registry import AnyMachine


class Twin:
    """A second process that makes decisions again, twice each. One for a whole test run will do: it is a context manager.

    addresses: "module:attribute" of machines (or of their effects), importable in both processes.
    Sets of strings have another order there, module variables are its own, and no memory is shared. Two strings fall in
    the same order by chance every other time, twenty never do: test with sets of some size.
    Raises ConfigurationError: an address that leads to no machine, or a process that does not start.
    """

    def __init__(self, *addresses: str) -> None:
        self._addresses = {resolved(address): address for address in addresses}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    @property
    def machines(self) -> tuple[AnyMachine, ...]:
        """The machines, as this process knows them."""
        return tuple(self._addresses)

    def __enter__(self) -> Self:
        # Another seed than this process's, if that has a fixed one; the same in each run.
        seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from fsm_core.purity.second import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            for address in self._addresses.values():
                self._ask({"machine": address})
        except ConfigurationError:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def decide(
        self, machine: AnyMachine, table: str, arguments: Given, ctx: list[object] | None
    ) -> list[object]:
        """What the machine's function answers there, the first and the second time, as `told` has it.

        arguments, ctx: what it is given, as `given` and `circumstances` have it. Raises ConfigurationError: the process is
        gone, or could not read them.
        """
        question = {"machine": self._addresses[machine], "table": table, "arguments": arguments, "ctx": ctx}
        answers: list[object] = self._ask(question)
        return answers

    def _ask(self, question: Mapping[str, object]) -> Any:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise ConfigurationError("the second process does not run: `with Twin(...) as twin`")
        with self._lock:
            try:
                process.stdin.write(json.dumps(question) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                line = ""
        answer = json.loads(line) if line else {"error": "it ended"}
        if "error" in answer:
            raise ConfigurationError(f"the second process, {question['machine']}: {answer['error']}")
        return answer["answers"]

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.communicate()  # its input ends, and so does it


def resolved(address: str) -> AnyMachine:
    """The machine at "module:attribute". Raises ConfigurationError."""
    module, _, attribute = address.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"{address!r} leads to no machine: {error}") from error
    if isinstance(found, Effects):
        return found.machine
    if not isinstance(found, Machine):
        raise ConfigurationError(f"{address!r} is a {type(found).__name__}, no machine")
    return found
