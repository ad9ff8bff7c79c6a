"""The deployment: an app, its agents and its tools. Copy this folder to start your own; agentq never imports it."""
