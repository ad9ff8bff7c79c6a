"""The tests. A package, so that `from tests.helpers import wait_until` works everywhere."""
