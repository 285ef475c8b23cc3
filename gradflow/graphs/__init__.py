"""CUDA graphs: work that the card records once and then runs again with one launch, by PyTorch's names and as whole steps."""

from .callables import make_graphed_callables
from .capture import CUDAGraph, graph_pool_handle
from .step import Step, graph

__all__ = ["CUDAGraph", "Step", "graph", "graph_pool_handle", "make_graphed_callables"]
