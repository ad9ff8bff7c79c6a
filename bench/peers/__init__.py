"""One peer per file: the side that prepares and reads the result, and the worker process that is measured."""
