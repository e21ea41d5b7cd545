"""`python -m benchmarks [NAME]... [--json FILE] [--smoke] [--alone] [--scale PART]`.

Without a name, every benchmark. Exit status: 0 if every target was reached (or nothing was measured: `--smoke`), 1 if
one was missed, 2 for a name that there is not.
"""

import argparse
import json
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console

from benchmarks import cases, report
from benchmarks.frame import Benchmark, Options, Row


def names() -> tuple[str, ...]:
    """Every benchmark there is: the modules of `benchmarks.cases`."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(cases.__path__)))


def found(name: str) -> tuple[str, Benchmark]:
    """What the benchmark measures, and the benchmark."""
    module = import_module(f"{cases.__name__}.{name}")
    run: Benchmark = module.run
    return (module.__doc__ or "").partition("\n")[0].rstrip("."), run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run benchmarks; returns the exit status."""
    options = parsed(arguments)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    runs: dict[str, Sequence[Row]] = {}
    for name in options.names or names():
        about, run = found(name)
        runs[name] = list(run(Options(smoke=options.smoke, peers=not options.alone, scale=options.scale)))
        report.table(name, about, runs[name], console)
    if options.json is not None:
        options.json.write_text(json.dumps(report.document(runs, smoke=options.smoke), indent=2) + "\n")
    if options.smoke:
        print("A smoke run: these figures say nothing.")
        return 0
    return int(any(row.met is False for rows in runs.values() for row in rows))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, beside the peers.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which ({', '.join(names())}); without one, all"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--smoke", action="store_true", help="one tiny round: does it work at all?")
    parser.add_argument("--alone", action="store_true", help="without the peers")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="of the largest sizes, growth's and memory's; 0.1: a tenth"
    )
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in names():
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(names())}")
    return options


if __name__ == "__main__":
    sys.exit(main())
