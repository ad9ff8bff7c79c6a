"""Tools: functions that a model may call. From a signature to a schema, and from a call to its result."""
