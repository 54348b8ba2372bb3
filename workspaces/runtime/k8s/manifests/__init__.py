"""The objects of a workspace, as pure functions of its specification and the adapter's settings."""
