"""Accounts: who. Users, sign-in, tokens and access."""
