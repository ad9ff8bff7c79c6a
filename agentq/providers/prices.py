"""What a reply cost, by the prices of the package `genai-prices` (extra `cost`). Without it nothing is priced."""

from __future__ import annotations

import functools
from decimal import Decimal
from importlib import metadata, util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentq.messages import Message, Usage

_PACKAGE = "genai-prices"
_NANO = Decimal(1_000_000_000)
# Our names of providers that the package calls otherwise; those that it does not know cost nobody anything we know of.
_THEIR_NAMES = {"openai-chat": None, "xai": "x-ai", "litellm": None, "mock": None}


def priced(message: Message, provider: str, model: str) -> Message:
    """The reply with its cost in `usage`, where the price of the model is known."""
    usage = message.usage
    if usage is None or usage.cost_nanousd is not None or not (usage.input_tokens or usage.output_tokens):
        return message
    prices = _prices()
    provider_id = _THEIR_NAMES.get(provider, provider)
    if prices is None or provider_id is None:
        return message
    cost = _cost(prices, usage, provider_id, model)
    if cost is None:
        return message
    update = {"cost_nanousd": int((cost * _NANO).to_integral_value()), "prices": _version()}
    return message.model_copy(update={"usage": usage.model_copy(update=update)})


def _cost(prices: Any, usage: Usage, provider_id: str, model: str) -> Decimal | None:
    counted = prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    try:
        cost: Decimal = prices.calc_price(counted, model_ref=model, provider_id=provider_id).total_price
    except (LookupError, ValueError):
        return None  # a model or a combination of tokens that the prices do not speak of
    return cost


@functools.cache
def _prices() -> Any:
    """The package, or None. It takes a while to import, so the first reply of a process does it."""
    if util.find_spec("genai_prices") is None:
        return None
    import genai_prices

    return genai_prices


@functools.cache
def _version() -> str:
    return f"{_PACKAGE} {metadata.version(_PACKAGE)}"
