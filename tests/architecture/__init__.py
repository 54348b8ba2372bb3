"""The house rules that no linter knows, each with an example that breaks it."""
