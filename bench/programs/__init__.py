"""What runs with a peer's own interpreter: it imports nothing of agentq, and of the bench only this package."""
