"""What the portal's templates need beyond Django's own."""

from __future__ import annotations

from datetime import UTC, datetime

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()
UNITS = ("kB", "MB", "GB", "TB")


@register.simple_tag
def icon(name: str) -> SafeString:
    """A symbol of our own sprite; it says nothing to a screen reader, so words must stand beside it."""
    return format_html(
        '<svg class="icon" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        static("icons.svg"),
        name,
    )


@register.filter
def moment(at: datetime | None) -> SafeString | str:
    """A time that scripts turn into the reader's own words and zone; without scripts it is UTC."""
    if at is None:
        return ""
    utc = at.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        utc.isoformat(timespec="seconds"),
        utc.strftime("%d %B %Y, %H:%M UTC"),
        utc.strftime("%d %b %Y, %H:%M UTC"),
    )


@register.filter
def size(kilobytes: int | None) -> str:
    """A size for people; empty where unknown."""
    if kilobytes is None:
        return ""
    amount, unit = float(kilobytes), 0
    while amount >= 1000 and unit < len(UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} {UNITS[unit]}" if amount >= 10 or unit == 0 else f"{amount:.1f} {UNITS[unit]}"
