"""What a model call that gave no reply means for the turn: told to the model, and whether another try can help."""

from __future__ import annotations

import logging
import math

from agentq import _json
from agentq.decide import Failure
from agentq.errors import AgentQError, ContextError, ProviderError
from agentq.loop.policy import HookFailed
from agentq.messages import NoteKind

logger = logging.getLogger(__name__)
# What a provider asks for beyond this is a mistake in a unit.
_LONGEST_WAIT_S = 86_400.0


def failure_of(error: Exception, run_id: str) -> Failure:
    """The failure that an exception amounts to. What only a log can explain is logged."""
    words = _json.storable(str(error))
    match error:
        case ProviderError():
            return Failure(words, error.retryable, _wait_ms(error))
        case HookFailed():
            return Failure(words, not error.is_final, kind=NoteKind.HOOK_ERROR)
        case ContextError():
            logger.warning("run %s: %s", run_id, error, exc_info=error, extra={"run_id": run_id})
            return Failure(words, kind=NoteKind.CONTEXT_ERROR)
        case AgentQError():
            return Failure(words, retryable=False)
        case _:
            logger.error("provider of run %s raised", run_id, exc_info=error, extra={"run_id": run_id})
            return Failure(_json.storable(f"{type(error).__name__}: {error}"))


def _wait_ms(error: ProviderError) -> int | None:
    """How long the provider asked to wait; what is no length of time counts as not asked."""
    wait_s = error.retry_after_s
    return int(min(wait_s, _LONGEST_WAIT_S) * 1000) if wait_s is not None and 0 <= wait_s < math.inf else None
