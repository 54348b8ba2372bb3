"""Writing workspaces: one module per kind of write, one function per use case."""
