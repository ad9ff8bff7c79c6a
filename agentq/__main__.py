"""`python -m agentq` is the command line."""

from agentq.cli import main

if __name__ == "__main__":
    main()
