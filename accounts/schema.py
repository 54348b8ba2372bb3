"""How the API's schema describes signing in with a token."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # The library's registry.
    """`Authorization: Bearer slp_…`."""

    target_class = "accounts.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """The scheme, as OpenAPI writes it."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "slp_…"}
