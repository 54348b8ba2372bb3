"""What can go wrong in a workspace, in words for its owner."""

from __future__ import annotations


class Problem(Exception):
    """A failure that can be explained to the workspace's owner.

    Args:
        code: stable snake_case word for programs and metrics.
        message: one sentence: what happened. Never holds a secret.
        next_step: one sentence: what to do now.
        temporary: the same may work in a moment without anybody changing anything.
    """

    def __init__(self, code: str, message: str, next_step: str = "", *, temporary: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.next_step = next_step
        self.temporary = temporary
