"""Where workspaces run: one port, several adapters. Nothing in here knows Django."""
