"""The workspace API, version 1."""
