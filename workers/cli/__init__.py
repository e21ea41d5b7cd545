"""The `fsm` command: one verb in each module, registered in `workers.cli.main`.

With `celeryconfig.py` this is the only place that knows every floor. What is heavy is imported inside the verbs, so
that `fsm --help` and a mistyped option answer at once.
"""
