"""JSON as people write it: with comments and trailing commas."""

from __future__ import annotations

import json
from typing import Any

import json5

from agent.texts import whole


def loads(text: str) -> Any:
    """The value in a text. To be called in a thread: a long text with comments takes seconds.

    Raises:
        ValueError: it is not valid.
        RecursionError: it is nested too deeply.
    """
    try:
        document = json.loads(text)
    except ValueError:
        # The lenient parser is slower by far, so it only gets what needs it.
        document = json5.loads(text)
    # Escapes can make text that is none (lone surrogates), which neither files nor processes would take.
    return json.loads(whole(json.dumps(document, ensure_ascii=False)))
