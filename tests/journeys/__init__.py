"""The whole platform, from outside: as people use it, and as machines fail it."""
