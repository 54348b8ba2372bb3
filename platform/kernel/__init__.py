"""The small shared kernel: errors, jobs, crypto, observability. It imports no app."""
