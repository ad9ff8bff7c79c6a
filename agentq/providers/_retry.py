"""When a model call that failed is made again at once, and after how long. Pure but for the random spread."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from agentq.errors import ProviderError

# A longer wait is the run's: it is put off, and takes no slot meanwhile.
LONGEST_WAIT_S = 60.0


class Retry(BaseModel):
    """The `retry` of an agent's model settings: attempts of one call, before anything of a reply has come.

    The wait doubles from `initial_s` to `max_s`, spread by `jitter` to both sides, and is never shorter than what the
    server asks for. `statuses` are the HTTP statuses that are tried again; a broken connection always is.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    max_attempts: int = Field(default=3, ge=1, le=20)
    initial_s: float = Field(default=1.0, ge=0, le=LONGEST_WAIT_S)
    max_s: float = Field(default=30.0, ge=0, le=LONGEST_WAIT_S)
    jitter: float = Field(default=0.25, ge=0, le=1)
    statuses: list[int] = Field(default=[408, 409, 425, 429, 500, 502, 503, 504, *range(520, 525), 529])

    def wait_s(self, error: ProviderError, attempt: int) -> float | None:
        """How long to wait after `attempt` (from 1) failed; None for no further one."""
        if attempt >= self.max_attempts or not error.retryable:
            return None
        if error.status is not None and error.status not in self.statuses:
            return None
        # An overflow before attempt 1024 would take a max_attempts that nobody can set.
        wait_s = min(self.initial_s * 2 ** (attempt - 1), self.max_s)
        wait_s *= random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311 - spreads retries, guards nothing
        wait_s = max(wait_s, error.retry_after_s or 0.0)
        return wait_s if wait_s <= LONGEST_WAIT_S else None
