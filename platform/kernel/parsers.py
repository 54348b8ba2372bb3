"""What the API reads: JSON, of bounded size."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits[:20])


class BoundedJSON(BaseParser):
    """JSON in UTF-8 (RFC 8259), at most `DATA_UPLOAD_MAX_MEMORY_SIZE` bytes.

    The REST framework's own parser reads any amount, and stumbles over deep nesting and over strange charsets.
    """

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The document.

        Raises:
            RequestDataTooBig: it is too long.
            ParseError: it is no JSON.
        """
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        raw = stream.read(limit + 1)
        if len(raw) > limit:
            raise RequestDataTooBig("body")
        try:
            return json.loads(raw.decode(), parse_float=_finite, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise ParseError("This is not JSON in UTF-8.") from error
