"""A server to call, and connections that the test can look into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.providers.faults import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.providers.faults import FaultServer


@pytest.fixture
async def model_server() -> AsyncIterator[FaultServer]:
    """A model server on loopback that misbehaves as told."""
    async with serving() as server:
        yield server
