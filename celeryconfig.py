"""Celery's configuration, and fsm-core's: what this checkout's workers load. Every setting has an environment variable."""

import os

broker_url = os.environ.get("BROKER_URL", "redis://127.0.0.1:6379/0")

# The machines (with their effects) that workers, relay and the `fsm` command know. FSM_MACHINES goes before it.
fsm_machines = ["examples.door_effects:effects"]

# Flower shows every action as `machine.Action`, and needs these events. They cost throughput: on only where Flower runs.
worker_send_task_events = task_send_sent_event = os.environ.get("FSM_FLOWER") == "1"
