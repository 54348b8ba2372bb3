from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Invalid
from workspaces.repositories.parse import parse
from workspaces.repositories.port import RepositoryRef, Revision


def understand(text: str, **options: object) -> RepositoryRef:
    return parse(text, **{"allow_file": True, **options})  # type: ignore[arg-type]  # options of `parse`


def refused(text: str, *, allow_file: bool = True) -> Invalid:
    with pytest.raises(Invalid) as caught:
        parse(text, allow_file=allow_file)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "octocat/hello-world",
        "  octocat/hello-world/ \n",
        "octocat/hello-world.git",
        "github.com/octocat/hello-world",
        "www.github.com/octocat/hello-world",
        "https://github.com/octocat/hello-world",
        "https://github.com/octocat/hello-world.git/",
        "https://github.com:443/octocat/hello-world",
        "HTTPS://www.GitHub.com/octocat/hello-world/",
        "http://github.com/octocat/hello-world?tab=readme#usage",
        "git@github.com:octocat/hello-world.git",
        "ssh://git@github.com/octocat/hello-world.git",
        "ssh://git@github.com:22/octocat/hello-world",
        "https://github.com/octocat/hello-world/tree/",
    ],
)
def test_every_way_to_name_a_github_repository_is_the_same_repository(text: str) -> None:
    expected = RepositoryRef("github", "https://github.com/octocat/hello-world.git", "octocat/hello-world")
    assert understand(text) == expected


@pytest.mark.parametrize(
    ("page", "revision"),
    [
        ("tree/main", Revision("tree_path", "main")),
        ("tree/feature/x/y/", Revision("tree_path", "feature/x/y")),
        ("tree/fix%23-12/%C3%A9t%C3%A9", Revision("tree_path", "fix#-12/été")),
        ("blob/main/.github/workflows/ci.yml#L10-L20", Revision("tree_path", "main/.github/workflows/ci.yml")),
        ("blob/main/poetry.lock?plain=1", Revision("tree_path", "main/poetry.lock")),
        ("commit/ABCDEF0123", Revision("commit", "abcdef0123")),
        (f"commit/{'a' * 40}#diff-1", Revision("commit", "a" * 40)),
        ("pull/5", Revision("pull", "5")),
        ("pull/5/files", Revision("pull", "5")),
        ("pull/12/commits/abcdef0?x=y", Revision("pull", "12")),
    ],
)
def test_github_page_names_a_revision(page: str, revision: Revision) -> None:
    ref = understand(f"https://github.com/octocat/hello-world/{page}")
    assert (ref.full_name, ref.revision) == ("octocat/hello-world", revision)


@pytest.mark.parametrize(
    ("text", "clone_url", "full_name"),
    [
        ("https://gitlab.com/group/sub/name.git", "https://gitlab.com/group/sub/name.git", "group/sub/name"),
        ("gitlab.com/group/name", "https://gitlab.com/group/name", "group/name"),
        ("http://127.0.0.1:9000/team/name/", "http://127.0.0.1:9000/team/name", "team/name"),
        ("https://Git.Example.com:8443/a/b?private_token=x#y", "https://git.example.com:8443/a/b", "a/b"),
        ("https://example.com/my%20repo.git", "https://example.com/my%20repo.git", "my repo"),
        ("ssh://deploy@example.com:2222/srv/name", "ssh://deploy@example.com:2222/srv/name", "srv/name"),
        ("git@gitlab.com:group/name.git", "git@gitlab.com:group/name.git", "group/name"),
        ("git@example.com:~ada/name", "git@example.com:~ada/name", "~ada/name"),
        ("https://[::1]:8000/a", "https://[0000:0000:0000:0000:0000:0000:0000:0001]:8000/a", "a"),
        ("https://github.com:8443/a/b", "https://github.com:8443/a/b", "a/b"),
        ("https://gist.github.com/a1b2c3", "https://gist.github.com/a1b2c3", "a1b2c3"),
        ("file:///srv/repos/name.git", "file:///srv/repos/name.git", "srv/repos/name"),
        ("file://localhost/srv/my%20repo", "file:///srv/my%20repo", "srv/my repo"),
        ("/srv/my repo/", "file:///srv/my%20repo", "srv/my repo"),
        ("/srv/100%", "file:///srv/100%25", "srv/100%"),
        ("/srv/it's-🦊", "file:///srv/it%27s-%F0%9F%A6%8A", "srv/it's-🦊"),
    ],
)
def test_other_servers_are_left_to_git(text: str, clone_url: str, full_name: str) -> None:
    assert understand(text) == RepositoryRef("git", clone_url, full_name)


def test_github_is_where_the_settings_say() -> None:
    enterprise = understand("octocat/hello", github_url="https://ghe.example.com/")
    assert enterprise.clone_url == "https://ghe.example.com/octocat/hello.git"
    page = understand("https://ghe.example.com/octocat/hello/pull/3", github_url="https://ghe.example.com")
    assert (page.provider, page.revision) == ("github", Revision("pull", "3"))
    assert understand("https://github.com/octocat/hello", github_url="https://ghe.example.com").provider == "git"
    local = "http://127.0.0.1:9000"
    assert understand(f"{local}/octocat/hello", github_url=local).provider == "github"
    assert understand("http://127.0.0.1:9001/octocat/hello", github_url=local).provider == "git"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("repository_required", ""),
        ("repository_required", " \t\n "),
        ("repository_too_long", "a/" + "b" * 2047),
        ("repository_control_characters", "octocat/hello\nworld"),
        ("repository_control_characters", "octocat/hel\x00lo"),
        ("repository_control_characters", "https://example.com/a\x7f"),
        ("repository_control_characters", "/srv/\udcff"),
        ("repository_malformed", "hello"),
        ("repository_malformed", "a/b/c"),
        ("repository_malformed", "./relative"),
        ("repository_malformed", "~/name"),
        ("repository_malformed", "https://"),
        ("repository_malformed", "https:///a/b"),
        ("repository_malformed", "https://example.com"),
        ("repository_malformed", "https://example.com/"),
        ("repository_malformed", "https://github.com/octocat"),
        ("repository_malformed", "https://exa mple.com/a"),
        ("repository_malformed", "https://münchen.example/a"),
        ("repository_malformed", "https://[:1/a"),
        ("repository_malformed", "https://[fe80::1%25eth0]/a"),
        ("repository_malformed", "git@[fe80::1%eth0]:a/b"),
        ("repository_malformed", "git@[::1%::x y]:a/b"),
        ("repository_transport_refused", "https://[::1/a"),
        ("repository_malformed", "https://example.com/a/../b"),
        ("repository_malformed", "https://example.com/a/%2e%2e/b"),
        ("repository_malformed", "https://example.com/a%0Ab"),
        ("repository_malformed", "https://example.com/..git"),
        ("repository_malformed", "file://elsewhere/srv"),
        ("repository_malformed", "file:///"),
        ("repository_malformed", "https://github.com/a/b/tree/..%2f..%2fuser"),
        ("repository_malformed", "https://github.com/a/b/tree/.hidden"),
        ("repository_name_invalid", "octocat/hello world"),
        ("repository_name_invalid", 'octocat/"hello"'),
        ("repository_name_invalid", "octocat/it's"),
        ("repository_name_invalid", "octocat/🦊"),
        ("repository_name_invalid", "octo cat/hello"),
        ("repository_name_invalid", "octocat/.."),
        ("repository_name_invalid", "octocat/..git"),
        ("repository_name_invalid", "octocat/hello;reboot"),
        ("repository_name_invalid", "octocat/$(reboot)"),
        ("repository_name_invalid", f"octocat/{'a' * 101}"),
        ("repository_name_invalid", "https://example.com/my repo"),
        ("repository_name_invalid", "https://example.com/it's"),
        ("repository_name_invalid", "https://example.com/🦊"),
        ("repository_name_invalid", "https://example.com/a%zz"),
        ("repository_name_invalid", "git@example.com:a b"),
        ("repository_name_invalid", "git@example.com:a\\b"),
        ("repository_leading_dash", "--upload-pack=reboot"),
        ("repository_leading_dash", "-oProxyCommand=reboot@example.com:a"),
        ("repository_leading_dash", "octocat/-hello"),
        ("repository_leading_dash", "https://github.com/-octocat/hello"),
        ("repository_leading_dash", "ssh://-oProxyCommand=reboot/a"),
        ("repository_leading_dash", "ssh://-x@example.com/a"),
        ("repository_leading_dash", "git@-oProxyCommand=reboot:a"),
        ("repository_leading_dash", "git@example.com:-a"),
        ("repository_leading_dash", "https://example.com/%2Da"),
        ("repository_leading_dash", "https://example.com/a/--b"),
        ("repository_leading_dash", "/-srv"),
        ("repository_leading_dash", "file:///srv/-x"),
        ("repository_leading_dash", "https://github.com/a/b/tree/-x"),
        ("repository_transport_refused", "ext::sh -c reboot"),
        ("repository_transport_refused", "fd::17"),
        ("repository_transport_refused", "EXT::sh"),
        ("repository_transport_refused", "git-remote-x::https://example.com/a"),
        ("repository_transport_refused", "https://example.com/a::b"),
        ("repository_scheme_refused", "ftp://example.com/a"),
        ("repository_scheme_refused", "git://example.com/a"),
        ("repository_scheme_refused", "git+ssh://example.com/a"),
        ("repository_scheme_refused", "javascript:alert(1)"),
        ("repository_scheme_refused", "http:/example.com/a"),
        ("repository_scheme_refused", "C:/repos/a"),
        ("repository_scheme_refused", "://a/b"),
        ("repository_credentials_in_url", "https://ada:hunter2@example.com/a"),
        ("repository_credentials_in_url", "https://ghp_hunter2@github.com/a/b"),
        ("repository_credentials_in_url", "ssh://git:hunter2@example.com/a"),
        ("repository_credentials_in_url", "https://@example.com/a"),
        ("repository_port_invalid", "https://example.com:0/a"),
        ("repository_port_invalid", "https://example.com:65536/a"),
        ("repository_port_invalid", "https://example.com:http/a"),
        ("repository_page_unsupported", "https://github.com/a/b/issues/5"),
        ("repository_page_unsupported", "https://github.com/a/b/pull/0"),
        ("repository_page_unsupported", "https://github.com/a/b/pull/new"),
        ("repository_page_unsupported", "https://github.com/a/b/commit/main"),
        ("repository_page_unsupported", "https://github.com/a/b/commit/--x"),
    ],
)
def test_bad_input_is_refused_with_words(code: str, text: str) -> None:
    failure = refused(text)
    assert (failure.code, failure.field) == (code, "repo")
    assert failure.user_text
    assert failure.next_step
    assert "hunter2" not in f"{failure} {failure.user_text} {failure.next_step} {failure.log_text}"


@pytest.mark.parametrize("text", ["/srv/repos/a", "file:///srv/repos/a", "FILE:///etc"])
def test_folders_of_the_server_need_permission(text: str) -> None:
    assert refused(text, allow_file=False).code == "repository_local_refused"


# Pieces that addresses are made of, so that random text gets past the first check.
_PIECES = st.sampled_from(
    [
        "https://",
        "ssh://",
        "file://",
        "git@",
        "github.com",
        "example.com",
        "[::1]",
        "::",
        ":",
        "/",
        "//",
        "-",
        "--x",
        ".",
        "..",
        ".git",
        "@",
        "%2d",
        "%0a",
        "%2F",
        "%00",
        "tree/",
        "pull/",
        "commit/",
        "owner",
        "name",
        "🦊",
        "\\",
        "'",
    ]
)
_TEXTS = st.one_of(
    st.text(max_size=80),
    st.text(alphabet=string.printable, max_size=80),
    st.lists(st.one_of(_PIECES, st.text(max_size=5)), max_size=12).map("".join),
)


@given(_TEXTS, st.booleans())
def test_any_text_is_either_refused_or_safe_for_git(text: str, allow_file: bool) -> None:
    try:
        ref = parse(text, allow_file=allow_file)
    except Invalid:
        return
    assert ref.clone_url.startswith(("https://", "http://", "ssh://", "file://")) or "@" in ref.clone_url
    assert not ref.clone_url.startswith("-")
    assert "::" not in ref.clone_url
    assert ref.clone_url.isprintable()
    assert allow_file or not ref.clone_url.startswith("file:")
    folder = ref.full_name.rsplit("/", 1)[-1]
    assert folder not in {"", ".", ".."}
    assert not folder.startswith("-")
    assert parse(ref.clone_url, allow_file=allow_file).clone_url == ref.clone_url
