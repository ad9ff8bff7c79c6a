"""Web apps around the agents, each a file to copy from. README.md says how to run them."""
