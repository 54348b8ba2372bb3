"""The gateway: the edge that carries HTTP and WebSocket to workspaces. It knows no Django and no database."""
