"""The kernel and the environment."""
