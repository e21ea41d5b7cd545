"""Relay, finish, admission: every test of them once more."""

from tests.delivery.test_finish_faults import *  # noqa: F403 - its tests are these
from tests.delivery.test_limits import *  # noqa: F403
from tests.delivery.test_limits import test_what_waits_for_its_limit_is_not_read
from tests.delivery.test_queue_limits import *  # noqa: F403
from tests.delivery.test_relay import *  # noqa: F403

del test_what_waits_for_its_limit_is_not_read  # it looks for the table by its name in a plan
