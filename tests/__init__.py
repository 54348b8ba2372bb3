"""Slipway's tests: pure tables, services on a real database, adapters by contract, journeys in a browser."""
