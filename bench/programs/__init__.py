"""What runs with a peer's own interpreter: it imports nothing of agentq, and of the bench only this package.

`bench.children` is the exception, which imports nothing of either.
"""
