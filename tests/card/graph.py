"""CUDA graphs: what a stream captures, made again at every launch, with a check that its memory is still its own.

While a stream captures, work runs as it always does, so that later work sees shapes and indices that make sense; but
when the capture ends, all memory is as it was before and what was made in between is poison: nothing has happened.
A graph keeps no array alive, as on a real card. Where an array died, its block must still be reserved: a block of the
graph's own pool is, one that went back to the default pool or was handed out again after the capture is a CardError.
"""

import ctypes
from typing import NamedTuple

import numpy as np

from . import memory, work
from .memory import NAN, CardError, Memory, counts

open_captures = []


class Node(NamedTuple):
    """One piece of work, the blocks it touches, and how often each had been handed out when it was recorded."""

    what: str
    run: object
    blocks: tuple


class Graph:
    """What a stream captured; launch() does it again."""

    def __init__(self, nodes):
        self._nodes = nodes

    def check(self):
        """CardError if memory that the graph uses is no longer its own."""
        for i, node in enumerate(self._nodes):
            for block, times in node.blocks:
                if reason := block.fault(times):
                    raise CardError(f"graph: {block.size} bytes that node {i}, {node.what}, uses: the memory {reason}")

    def launch(self, stream=None):
        from .cuda import catch_up, get_current_stream

        self.check()
        stream = stream or get_current_stream()
        catch_up(stream)
        capture = stream._capture
        counts.graphs += 1
        work.note("graph", f"graph of {len(self._nodes)}")
        for node in self._nodes:
            if capture is not None:
                capture.nodes.append(node)
            node.run()

    def upload(self, stream=None):
        pass

    def debug_dot_str(self, flags=0):
        rows = "".join(f'  {i} [label="{node.what}"]\n' for i, node in enumerate(self._nodes))
        return f"digraph {{\n{rows}}}\n"


class Capture:
    """The work recorded between begin_capture and end_capture."""

    def __init__(self, stream):
        self.nodes, self.streams = [], [stream]
        self.before = [
            (m.keep(), ctypes.string_at(m.ptr, m.size)) for m in list(memory.live.values()) if m.size
        ]  # kept, so that nothing is freed in between
        open_captures.append(self)

    def add(self, what, run, memories):
        """Do a piece of work and record it."""
        kept = [m.keep() for m in memories if isinstance(m, Memory) and m.size]
        run()
        self.nodes.append(Node(what, run, tuple((b, b.times) for b in kept)))

    def routine(self, function, args, kwargs, out, seen, name):
        """Record a call of NumPy, already made, so that a replay writes into the same results."""
        from .array import results_of, written

        if not written(out, seen, kwargs):
            return  # a view
        results = results_of(out)
        made = [o for o in results if not any(o._memory is s._memory for s in seen)]
        blocks = {m.ptr: m.keep() for m in (x._memory for x in (*seen, *made)) if isinstance(m, Memory) and m.size}
        args, kwargs = alias(args, blocks), alias(kwargs, blocks)
        several = isinstance(out, (tuple, list))
        targets = [(any(o is m for m in made), alias(o._a, blocks)) for o in results]

        def run():
            r = function(*args, **kwargs)
            for (mine, to), value in zip(targets, r if several else [r], strict=False):
                if mine:
                    if np.shape(value) != to.shape:
                        raise CardError(f"graph: {name} gives {np.shape(value)} now, {to.shape} when captured")
                    to[...] = value

        self.nodes.append(Node(name, run, tuple((b, b.times) for b in blocks.values())))

    def end(self):
        """The graph; everything else is as it was before."""
        open_captures.remove(self)
        saved = {block.ptr for block, _ in self.before}
        for m in list(memory.live.values()):
            if m.size and m.ptr not in saved:
                ctypes.memset(m.ptr, NAN, m.size)
        for block, content in self.before:
            ctypes.memmove(block.ptr, content, block.size)
        self.before = ()
        return Graph(self.nodes)


def alias(x, blocks):
    """x with every array in the blocks replaced by the same view of the block itself, which keeps no array alive."""
    if isinstance(x, np.ndarray):
        owner = x
        while owner is not None and not isinstance(owner, Memory):
            owner = getattr(owner, "base", None)
        if owner is None or not owner.size:
            return x
        block = blocks[owner.ptr]
        return np.ndarray(x.shape, x.dtype, np.asarray(block), x.ctypes.data - block.ptr, x.strides) if x.size else x
    if type(x) is list or type(x) is tuple:
        return type(x)([alias(v, blocks) for v in x])
    if type(x) is dict:
        return {k: alias(v, blocks) for k, v in x.items()}
    return x
