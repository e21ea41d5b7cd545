"""The conformance suite of the stores, where it writes logs and actions: every test of it once more."""

from tests.store.conformance.test_family import *  # noqa: F403 - its tests are these
from tests.store.conformance.test_many import *  # noqa: F403
from tests.store.conformance.test_operate import *  # noqa: F403
from tests.store.conformance.test_prune import *  # noqa: F403
from tests.store.conformance.test_results import *  # noqa: F403
from tests.store.conformance.test_upcast import *  # noqa: F403
from tests.store.conformance.test_verbs import *  # noqa: F403
