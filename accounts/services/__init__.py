"""Writing accounts: one module for each thing, one function for each use case."""
