"""From what somebody typed or pasted to a `RepositoryRef`, without asking anybody.

Everything that git could take for an option, a command or another transport is refused here, and so are credentials.
Refusals never repeat the input, because it may hold a password.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import unicodedata
from collections.abc import Sequence
from urllib.parse import SplitResult, quote, unquote, urlsplit

from kernel.errors import Invalid
from workspaces.repositories.branch_names import is_branch_name, validate_branch
from workspaces.repositories.port import RepositoryRef, Revision

__all__ = ["MAX_LENGTH", "parse", "validate_branch"]

MAX_LENGTH = 2048
"""Characters. The length that common servers accept for an address."""

_DEFAULT_PORTS = {"https": 443, "http": 80, "ssh": 22}
_EXAMPLE = "Enter a name such as octocat/hello-world, or the address you would give to “git clone”."

_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,38}")
_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._][A-Za-z0-9._-]{0,99}")
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?"
)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
# RFC 3986, section 3.3, without the apostrophe, which no forge allows in a name and every shell trips over.
_URL_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_SCP = re.compile(r"(?P<user>[^@:/\s]+)@(?P<host>\[[^\]]*\]|[^:/@\s]+):(?P<path>.*)")
_HEX = re.compile(r"[0-9a-fA-F]{7,64}")
_TREE_PAGES = frozenset({"tree", "blob", "blame", "raw", "commits"})


def parse(text: str, *, github_url: str = "https://github.com", allow_file: bool) -> RepositoryRef:
    """Understand the name or address of a repository.

    Args:
        text: `owner/name`, an https, http, ssh or file URL, `git@host:path`, an absolute path, or the address of a
            GitHub page that shows a repository, branch, commit, pull request or file.
        github_url: what a bare `owner/name` and GitHub's pages are relative to.
        allow_file: whether folders of this machine may be named.

    Raises:
        Invalid: with `field` "repo" and one of the codes `repository_required`, `_too_long`, `_control_characters`,
            `_malformed`, `_name_invalid`, `_leading_dash`, `_transport_refused`, `_scheme_refused`,
            `_credentials_in_url`, `_port_invalid`, `_local_refused` or `_page_unsupported` (each after "repository").
    """
    text = _clean(text)
    site = _Site.of(github_url)
    if "://" in text:
        ref = _from_url(text, site, allow_file=allow_file)
    elif text.startswith("/"):
        ref = _from_path(text, allow_file=allow_file)
    elif scp := _SCP.fullmatch(text):
        ref = _from_scp(scp["user"], scp["host"], scp["path"], site)
    else:
        ref = _from_words(text, site, allow_file=allow_file)
    return ref


@dataclasses.dataclass(frozen=True)
class _Site:
    """Where GitHub is."""

    url: str
    host: str
    port: int

    @classmethod
    def of(cls, github_url: str) -> _Site:
        parts = urlsplit(github_url)
        return cls(github_url.rstrip("/"), parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0))

    def has(self, scheme: str, host: str, port: int | None) -> bool:
        if host.removeprefix("www.") != self.host:
            return False
        # Whoever pastes http:// or ssh:// means the same site; another port on the same machine is another server.
        return (
            port in {None, _DEFAULT_PORTS[scheme]} if self.port in {443, 80} or scheme == "ssh" else port == self.port
        )


def _refusal(code: str, text: str, next_step: str = _EXAMPLE) -> Invalid:
    return Invalid(code, text, next_step, field="repo")


def _clean(text: str) -> str:
    if len(text) > MAX_LENGTH:
        raise _refusal("repository_too_long", f"This is longer than {MAX_LENGTH} characters.")
    text = text.strip()
    if not text:
        raise _refusal("repository_required", "No repository was named.")
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in text):
        raise _refusal("repository_control_characters", "This contains line breaks or other control characters.")
    if text.startswith("-"):
        raise _leading_dash()
    # Brackets hold IPv6 addresses, which are written out in full further down.
    if "::" in re.sub(r"\[[^\]]*\]", "", text):
        raise _refusal(
            "repository_transport_refused",
            "Addresses with “::” ask git to run a helper program, which is not allowed here.",
            "Use the https or ssh address of the repository.",
        )
    return text


def _leading_dash() -> Invalid:
    return _refusal("repository_leading_dash", "No part of the address may begin with a dash.")


def _malformed(text: str = "This is neither the name nor the address of a repository.") -> Invalid:
    return _refusal("repository_malformed", text)


def _from_words(text: str, site: _Site, *, allow_file: bool) -> RepositoryRef:
    parts = text.rstrip("/").split("/")
    if len(parts) > 1 and "." in parts[0] and _HOST.fullmatch(parts[0].partition(":")[0]):
        # Browsers drop the scheme when an address is copied. An owner's name never has a dot.
        return _from_url(f"https://{text}", site, allow_file=allow_file)
    if ":" in text:
        raise _scheme_refused()
    if len(parts) != 2 or parts[0] in {".", "..", "~"}:
        raise _malformed()
    return _github(parts, Revision(), site)


def _scheme_refused() -> Invalid:
    return _refusal(
        "repository_scheme_refused",
        "Only https, http and ssh addresses can be used.",
        "Copy the https address from the repository's page.",
    )


def _from_url(text: str, site: _Site, *, allow_file: bool) -> RepositoryRef:
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    if scheme == "file":
        return _from_path(_file_path(rest), allow_file=allow_file)
    if scheme not in _DEFAULT_PORTS:
        raise _scheme_refused()
    try:
        parts = urlsplit(f"{scheme}://{rest}")
    except ValueError as error:
        raise _malformed() from error
    user = _user(parts)
    host, port = _host(parts.hostname or ""), _port(parts)
    path = parts.path.rstrip("/")
    if not _URL_PATH.fullmatch(path):
        raise _refusal(
            "repository_name_invalid",
            "The address contains characters that are not allowed in it, such as spaces, quotes or emoji.",
            "Copy the address from the repository's page.",
        )
    if site.has(scheme, host, port):
        return _from_site_path(path, site)
    name = _full_name(unquote(path))
    shown_port = "" if port is None or port == _DEFAULT_PORTS[scheme] else f":{port}"
    return _other(f"{scheme}://{user}{host}{shown_port}{path}", name)


def _user(parts: SplitResult) -> str:
    """The `git@` of an ssh address, or nothing."""
    userinfo, at, _ = parts.netloc.rpartition("@")
    if not at:
        return ""
    if parts.scheme != "ssh" or ":" in userinfo:
        raise _refusal(
            "repository_credentials_in_url",
            "The address contains a user name, password or token.",
            "Remove everything between “://” and “@”, and replace the password or token if it was a real one.",
        )
    return _checked_user(userinfo)


def _checked_user(user: str) -> str:
    if user.startswith("-"):
        raise _leading_dash()
    if not _USER.fullmatch(user):
        raise _malformed("The user name in the address is not valid.")
    return f"{user}@"


def _host(host: str) -> str:
    if host.startswith("-"):
        raise _leading_dash()
    if ":" in host:
        try:
            address = ipaddress.IPv6Address(host)
        except ValueError as error:
            raise _malformed("The address names no valid server.") from error
        if address.scope_id is not None:
            raise _malformed("The address names a network interface, which no repository needs.")
        # Written out, so that "::" never reaches git.
        return f"[{address.exploded}]"
    host = host.lower()
    if not _HOST.fullmatch(host):
        raise _malformed("The address names no valid server.")
    return host.removesuffix(".")


def _port(parts: SplitResult) -> int | None:
    try:
        port = parts.port
    except ValueError as error:
        raise _port_refused() from error
    if port == 0:
        raise _port_refused()
    return port


def _port_refused() -> Invalid:
    return _refusal("repository_port_invalid", "The port in the address must be a number from 1 to 65535.")


def _from_scp(user: str, host: str, path: str, site: _Site) -> RepositoryRef:
    user, host = _checked_user(user), _host(host.strip("[]"))
    path = path.rstrip("/")
    if not _URL_PATH.fullmatch(path):
        raise _refusal(
            "repository_name_invalid",
            "The address contains spaces, quotes, emoji or other characters not allowed in it.",
        )
    if site.has("ssh", host, None):
        return _from_site_path(path, site)
    return _other(f"{user}{host}:{path}", _full_name(path))


def _file_path(rest: str) -> str:
    host, slash, path = rest.partition("/")
    if host not in {"", "localhost"}:
        raise _malformed("A file address needs three slashes: file:///path/to/repository.")
    return unquote(slash + path, errors="strict") if _decodes(path) else slash + path


def _decodes(path: str) -> bool:
    try:
        unquote(path, errors="strict")
    except UnicodeDecodeError:
        return False
    return True


def _from_path(path: str, *, allow_file: bool) -> RepositoryRef:
    if not allow_file:
        raise _refusal(
            "repository_local_refused",
            "Folders of the server cannot be used as repositories here.",
            "Use the https or ssh address of the repository.",
        )
    name = _full_name(path.rstrip("/"))
    # git decodes file URLs, so a per cent sign in a folder's name has to be encoded.
    return _other(f"file://{quote(path.rstrip('/'))}", name)


def _full_name(path: str) -> str:
    """The decoded path without `.git`, once each part of it is harmless."""
    parts = [part for part in path.split("/") if part]
    if not parts:
        raise _malformed("The address names a server, but no repository.")
    parts[-1] = parts[-1].removesuffix(".git")
    for part in parts:
        if part.startswith("-"):
            raise _leading_dash()
        if part in {"", ".", ".."} or any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in part):
            raise _malformed("The path in the address is not valid.")
    return "/".join(parts)


def _other(clone_url: str, full_name: str) -> RepositoryRef:
    return RepositoryRef("git", clone_url, full_name)


def _from_site_path(path: str, site: _Site) -> RepositoryRef:
    parts = [unquote(part) for part in path.split("/") if part]
    if len(parts) < 2:
        raise _malformed("The address names no repository.")
    return _github(parts[:2], _revision(parts[2:]), site)


def _github(parts: Sequence[str], revision: Revision, site: _Site) -> RepositoryRef:
    owner, name = parts[0], parts[1].removesuffix(".git")
    if owner.startswith("-") or name.startswith("-"):
        raise _leading_dash()
    if not _OWNER.fullmatch(owner) or not _NAME.fullmatch(name):
        raise _refusal(
            "repository_name_invalid",
            "Names on GitHub have only letters, digits, dots, dashes and underscores, and one slash after the owner.",
        )
    return RepositoryRef("github", f"{site.url}/{owner}/{name}.git", f"{owner}/{name}", revision)


def _revision(page: Sequence[str]) -> Revision:
    """Which revision the rest of a GitHub page's address stands for."""
    if not page or list(page) == ["tree"]:
        return Revision()
    kind, value = page[0], page[1] if len(page) > 1 else ""
    if kind == "pull" and re.fullmatch(r"[1-9][0-9]{0,9}", value):
        return Revision("pull", value)
    if kind == "commit" and _HEX.fullmatch(value):
        return Revision("commit", value.lower())
    if kind in _TREE_PAGES and value:
        return _tree_path(page[1:])
    raise _refusal(
        "repository_page_unsupported",
        "This page of GitHub shows no branch, commit or pull request.",
        "Use the address of the repository, of a branch, a commit or a pull request.",
    )


def _tree_path(parts: Sequence[str]) -> Revision:
    value = "/".join(parts)
    if any(part in {".", ".."} or any(unicodedata.category(c) == "Cc" for c in part) for part in parts):
        raise _malformed("The path in the address is not valid.")
    if value.startswith("-"):
        raise _leading_dash()
    if not any(is_branch_name("/".join(parts[:count])) for count in range(1, len(parts) + 1)):
        raise _malformed("The address names no valid branch.")
    return Revision("tree_path", value)
