"""Addresses for our own processes: the gateway and the agents. The public listener does not pass them on."""
