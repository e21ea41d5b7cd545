"""How every process of a run is started: the mutant first, if one is asked for, then the program itself.

python -m chaos.entry worker|relay|submitter|caller|operator|migrate [ARGUMENTS]
"""

from __future__ import annotations

import os
import sys

MUTANT = "CHAOS_MUTANT"


def main(arguments: list[str]) -> int:
    """Run the program. Returns its exit status."""
    program, *rest = arguments
    if name := os.environ.get(MUTANT):
        from chaos.mutants import apply

        apply(name)
    if program == "worker":
        from celery.__main__ import main as celery

        sys.argv = [
            "celery",
            "-A",
            "workers",
            "worker",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            *rest,
        ]
        celery()
        return 0
    if program == "relay":
        # Not by `fsm relay`: that becomes another program, which would know of no mutant.
        from workers import relay, settings

        return relay.main(settings.read())
    if program == "submitter":
        from chaos.submitter import main as submit

        return submit(rest)
    if program == "caller":
        from chaos.caller import main as call

        return call(rest)
    if program == "operator":
        from chaos.operator import main as operate

        return operate(rest)
    from workers.cli.main import main as fsm

    return fsm(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
