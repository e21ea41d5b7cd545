"""A celeryconfig whose keys in the broker all begin with `fsm:`."""

broker_transport_options = {"global_keyprefix": "fsm:"}
