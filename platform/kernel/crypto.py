"""Tokens, digests and sealed values."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import string
import zlib
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings

_ALPHABET = string.digits + string.ascii_letters


def new_token(prefix: str) -> str:
    """A token of 190 random bits, with a prefix and a checksum that let scanners recognise it without asking us."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(32))
    return f"{prefix}{body}{_checksum(body)}"


def looks_like_token(text: str, prefix: str) -> bool:
    """Whether prefix, length and checksum fit: cheap, and says nothing about validity."""
    body, check = text[len(prefix) : -6], text[-6:]
    return (
        text.isascii()
        and text.startswith(prefix)
        and len(body) == 32
        and secrets.compare_digest(_checksum(body), check)
    )


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def digest(secret: str) -> str:
    """Hex SHA-256, under which a random secret is stored. (Not for passwords: those are not random.)"""
    return hashlib.sha256(secret.encode()).hexdigest()


def _box() -> Fernet:
    key = hashlib.blake2b(settings.SECRET_KEY.encode(), digest_size=32, person=b"slipway-seal").digest()
    return Fernet(base64.urlsafe_b64encode(key))


def seal(value: dict[str, Any]) -> str:
    """Encrypt and sign a small document, for a cookie that its bearer must neither read nor change."""
    return _box().encrypt(json.dumps(value).encode()).decode()


def unseal(text: str, *, max_age: int) -> dict[str, Any] | None:
    """The sealed document, or None when it was tampered with, is malformed, or is older than `max_age` seconds."""
    try:
        value = json.loads(_box().decrypt(text.encode(), ttl=max_age))
    except (InvalidToken, ValueError):
        return None
    return value if isinstance(value, dict) else None
