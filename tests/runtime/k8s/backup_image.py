"""The IDE's image on a node: jobs that copy volumes run in it."""

from __future__ import annotations

import weakref

from tests.cluster import images, programs
from tests.cluster.node import Node

_loaded: weakref.WeakSet[Node] = weakref.WeakSet()


def on(node: Node) -> str:
    """The image's name, once it is on the node."""
    if node not in _loaded:
        node.load_image(images.ide_archive(programs.cache_folder().parent, programs.path("kubectl")))
        _loaded.add(node)
    return images.IDE
