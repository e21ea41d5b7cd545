"""An application's own Celery app, with the one task in it."""

import os

from celery import Celery

import workers

app = Celery("shop", broker=os.environ["BROKER_URL"])
app.conf.broker_transport_options = {"ack_emulation": False}
workers.install(app)


@app.task
def own() -> str:
    return "the application's own task"
