"""The operator's tests: its decision as a table and as properties, and what it does on a database."""
