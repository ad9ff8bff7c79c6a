"""Where runs live: the `Store` protocol and its implementations."""
