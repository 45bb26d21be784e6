"""A whole Portico with real processes, and a tool for it to talk to."""

from __future__ import annotations

from tests.faults.conftest import upstream  # noqa: F401 - a fixture
from tests.faults.running import home, port, stack, stack_variables  # noqa: F401 - fixtures
