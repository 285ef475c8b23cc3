"""torch.utils._pytree: nested containers of tensors, by PyTorch's names for gradflow.func.tree."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from ..func.tree import Spec, flatten, parts, register, tree_map, unflatten

__all__ = ["Context", "LeafSpec", "NodeDef", "PyTree", "TreeSpec", "tree_map"]

Context = PyTree = object
LeafSpec = TreeSpec = Spec
tree_flatten, register_pytree_node = flatten, register


class NodeDef(NamedTuple):
    """How a container is taken apart: flatten_fn(x) is (parts, context)."""

    flatten_fn: Callable[[Any], Any]


SUPPORTED_NODES = {kind: NodeDef(parts) for kind in (tuple, list, dict, OrderedDict, defaultdict, deque)}


def get_node_type(tree: Any) -> type:
    """The class of a container; tuple for every named tuple."""
    return tuple if isinstance(tree, tuple) and hasattr(tree, "_fields") else type(tree)


def tree_unflatten(leaves: Any, treespec: Spec) -> Any:
    """Leaves put back where they stood."""
    return unflatten(list(leaves), treespec)


def tree_leaves(tree: Any) -> list[Any]:
    """The leaves of nested containers, in order."""
    return flatten(tree)[0]
