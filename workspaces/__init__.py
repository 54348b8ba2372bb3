"""Workspaces: what the platform is for. Repositories, workspaces, their operator and their faces."""
