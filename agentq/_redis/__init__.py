"""Everything that is Redis: connections, keys, scripts. Nothing here knows what a run means."""
