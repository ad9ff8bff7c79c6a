"""Events: what happened in a run, in order, for terminals, browsers and callbacks alike."""
