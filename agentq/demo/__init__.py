"""`make demo`: an agent end to end in a few seconds, and nothing left behind. `python -m agentq.demo` in a checkout."""
