"""The Celery app that `celery -A workers worker` finds."""

from __future__ import annotations

from celery import Celery, signals

from workers.app import TASK, configured
from workers.task import install


def create_app() -> Celery:
    """The app as it is configured, with the one task, and no other."""
    app = configured()
    install(app)
    app.on_after_finalize.connect(lambda sender, **_: _only_ours(sender), weak=False)
    # After `install`: by then the machines' modules have been imported, whose shared tasks come to every app.
    signals.celeryd_after_setup.connect(lambda instance, **_: _only_ours(instance.app), weak=False)
    return app


def _only_ours(app: Celery) -> None:
    """A message may name any task: Celery's own run others (celery.map, celery.chain, ...), and shared ones of libraries do anything."""
    for name in set(app.tasks) - {TASK}:
        app.tasks.pop(name)


app = create_app()
