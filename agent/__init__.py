"""The agent: runs inside every workspace. It knows nothing of the server's code.

It brings the repository, starts code-server beside it, runs the dev container's commands and reports what it sees.
`python -m agent` needs nothing but the standard library, git and json5, so that it starts in a blink.
"""
