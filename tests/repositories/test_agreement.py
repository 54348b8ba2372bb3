"""What the platform accepts as a repository or a branch, the agent accepts too: it has rules of its own."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent import spec
from agent.problems import Problem
from kernel.errors import Invalid
from workspaces.repositories.branch_names import is_branch_name
from workspaces.repositories.parse import parse


def told(clone_url: str, full_name: str = "team/app", branch: str = "main") -> spec.Repository:
    """What the agent makes of it; raises `Problem`."""
    document = {
        "workspace": {"id": "6f1f7f0e-3a0c-4c8e-9a54-0f3f2f1d9b11", "slug": "app-bcdfg"},
        "run": 1,
        "repository": {
            "clone_url": clone_url,
            "full_name": full_name,
            "ref": f"refs/heads/{branch}",
            "branch": branch,
            "commit": "a" * 40,
        },
        "identity": {"name": "", "email": ""},
        "urls": {"workspace": "http://app-bcdfg.localhost:8000/", "port": "http://{port}-app-bcdfg.localhost:8000/"},
    }
    return spec.parse(json.dumps(document)).repository


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("octocat/hello-world", True),
        ("https://gitlab.com/group/sub/name.git", True),
        ("https://[::1]:8000/a", True),
        ("ssh://deploy@my_git:2222/srv/name", True),
        ("git@gitlab.com:group/name.git", True),
        ("git@my_git:team/repo.git", True),
        ("git@_git.internal_net:team/repo.git", True),
        ("git@[::1]:x/y", True),
        ("git@[2001:db8::7]:x/y.git", True),
        ("_deploy.9-x@git:~ada/name", True),
        ("git@example.com:/srv/a:b@c", True),
        ("/srv/it's-🦊", True),
        ("git@example.com:", False),
        ("git@-oProxyCommand=id:a", False),
        ("-oProxyCommand=id@example.com:a", False),
        ("git@[::1:a", False),
        ("git@[]:a", False),
        ("git@[-x]:a", False),
        ("git@exam ple.com:a", False),
        ("git@example.com:a b", False),
        ("ext::sh -c id", False),
        ("ftp://example.com/a", False),
        ("example.com", False),
    ],
)
def test_both_agree_on_addresses(text: str, accepted: bool) -> None:
    if accepted:
        ref = parse(text, allow_file=True)
        assert told(ref.clone_url, ref.full_name).clone_url == ref.clone_url
        return
    with pytest.raises(Invalid):
        parse(text, allow_file=True)
    with pytest.raises(Problem) as refused:
        told(text)
    assert refused.value.code == "spec_invalid"


_NAMES = st.text(alphabet=string.ascii_letters + string.digits + "._-~%@:[]é", max_size=12)
_HOSTS = st.one_of(_NAMES, st.ip_addresses().map(str), st.ip_addresses(v=6).map(lambda one: f"[{one}]"))
_PATHS = st.lists(_NAMES, min_size=1, max_size=4).map("/".join)
_ADDRESSES = st.one_of(
    st.builds("{}@{}:{}".format, _NAMES, _HOSTS, _PATHS),
    st.builds("{}://{}/{}".format, st.sampled_from(["https", "http", "ssh", "file"]), _HOSTS, _PATHS),
    st.builds("ssh://{}@{}/{}".format, _NAMES, _HOSTS, _PATHS),
    st.builds("/{}".format, _PATHS),
    _PATHS,
    st.text(max_size=40),
)


@settings(deadline=None, max_examples=300)
@given(_ADDRESSES)
@example("git@[::ffff:1.2.3.4]:a")
@example("a@b:c::d")
@example("a@b::c")
def test_whatever_the_platform_accepts_the_agent_accepts(text: str) -> None:
    try:
        ref = parse(text, allow_file=True)
    except Invalid:
        return
    assert told(ref.clone_url, ref.full_name).clone_url == ref.clone_url


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(max_size=30), st.text(alphabet="a.@{}/~^:?*[\\ -lock", max_size=12)))
@example("a/@")
@example("@/a")
@example("a.lock/b")
def test_whatever_branch_the_platform_accepts_the_agent_accepts(name: str) -> None:
    if is_branch_name(name):
        assert told("https://example.com/a", branch=name).branch == name
