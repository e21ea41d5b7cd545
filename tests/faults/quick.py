"""A celeryconfig for workers and relays that notice within a second or two what takes others half a minute."""

import os

broker_transport_options = {
    "socket_timeout": 1,
    "socket_connect_timeout": 1,
    "health_check_interval": int(os.environ.get("TEST_HEALTH_CHECK", "1")),
}
