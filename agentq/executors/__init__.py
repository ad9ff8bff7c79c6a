"""How the next iteration of a run is scheduled."""
