"""Services and the operator, on a real database."""
