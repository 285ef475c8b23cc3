"""What each kernel was designed for: threads of a block, blocks on a multiprocessor, instructions.

tests/compile.py compares it with what the compiler made, and fails naming the kernel and what is missing. A row holds for
every kernel of its family whose C++ name its pattern matches whole (re.fullmatch), on all five architectures:

    Row(r"sgd<float, \\d+>", threads=256, blocks=8, has="load16 store16"),
    Row(r"product<(\\w+), (\\d+), .*>", threads=lambda m: 2 * int(m[2]), shared=49152, blocks={90: 2}, since=80,
        has="copy_async ldmatrix mma.bf16", never="local"),

threads: of a block, as it is launched. shared: bytes of dynamic shared memory, as launched. blocks: how many shall be on a
multiprocessor at a time, at least: a number, or one for each architecture that matters. A number may be a function of the
match. has, never: names of INSTRUCTIONS, looked for in the machine code of sm_90. since: the first architecture.
A row that matches no kernel is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradflow.cuda import conv_mma, gemm

# Opcodes of the machine code, as the disassembler writes them: LDG.E.128.CONSTANT, LDGSTS.E.BYPASS.128, HMMA.1688.F32.TF32.
INSTRUCTIONS = {
    "load16": r"LDG\..*\b128\b.*",  # 16 bytes of device memory by one thread at once
    "load8": r"LDG\..*\b64\b.*",
    "store16": r"STG\..*\b128\b.*",
    "store8": r"STG\..*\b64\b.*",
    "copy_async": r"LDGSTS\b.*",  # cp.async
    "copy_async16": r"LDGSTS\..*\b128\b.*",
    "ldmatrix": r"LDSM\b.*",
    "mma": r"HMMA\b.*",
    "mma.f16": r"HMMA\.16816\.F32",
    "mma.bf16": r"HMMA\.16816\.F32\.BF16",
    "mma.tf32": r"HMMA\.1688\.F32\.TF32",
    "fma": r"FFMA\b.*",
    "shared_load16": r"LDS\..*\b128\b.*",
    "shared_store16": r"STS\..*\b128\b.*",
    "shuffle": r"SHFL\b.*",
    "local": r"(LDL|STL)\b.*",  # registers or local arrays that live in device memory
    "division": r"(CALL|CAL)\b.*",  # a call: 64-bit division, exact reciprocals, slow paths
}


@dataclass(frozen=True)
class Row:
    """What the kernels that match a pattern were designed for."""

    pattern: str
    threads: int | Callable[[re.Match], int]
    shared: int | Callable[[re.Match], int] = 0
    blocks: int | dict[int, int] | Callable[[re.Match], int] = 1
    has: str = ""
    never: str = ""
    since: int = 75


@dataclass(frozen=True)
class Multiprocessor:
    """What one multiprocessor of an architecture holds (CUDA C++ programming guide, table of compute capabilities)."""

    warps: int
    blocks: int
    shared: int  # bytes
    reserved: int  # bytes of shared memory that each block costs besides its own
    unit: int = 128  # shared memory is given in multiples of this
    registers: int = 65536


MULTIPROCESSORS = {
    75: Multiprocessor(32, 16, 64 << 10, 0, 256),
    80: Multiprocessor(64, 32, 164 << 10, 1024),
    90: Multiprocessor(64, 32, 228 << 10, 1024),
    100: Multiprocessor(64, 32, 228 << 10, 1024),
    120: Multiprocessor(48, 24, 100 << 10, 1024),
}


def occupancy(arch: int, registers: int, shared: int, threads: int) -> int:
    """Blocks at a time on one multiprocessor, by registers per thread, bytes of shared memory and threads per block."""
    m, warps = MULTIPROCESSORS[arch], -(-threads // 32)
    by_registers = m.warps
    if registers:
        per_warp = -(-registers * 32 // 256) * 256  # registers are given to warps in pieces of 256
        by_registers = m.registers // 4 // per_warp * 4  # a multiprocessor has four parts, a warp lives in one
    by_shared = m.blocks
    if shared:
        by_shared = m.shared // (-(-(shared + m.reserved) // m.unit) * m.unit)
    return min(m.blocks, m.warps // warps, by_registers // warps, by_shared)


def value(of: Any, match: re.Match, arch: int = 0) -> int:
    """A number of a row: itself, by architecture, or a function of the match."""
    return of.get(arch, 0) if isinstance(of, dict) else of(match) if callable(of) else of


def compare(family: str, arch: int, used: list) -> tuple[list[str], list[tuple[str, int, int]]]:
    """(what is not as designed, [(kernel, its blocks on a multiprocessor, the blocks designed)])."""
    wrong, report = [], []
    for row in ROWS.get(family, ()):
        if arch < row.since:
            continue
        matches = [(u, m) for u in used if (m := re.fullmatch(row.pattern, u.kernel))]
        if not matches:
            wrong.append(f"designed.py: no kernel of {family} matches {row.pattern!r}")
        for u, m in matches:
            threads, wanted = value(row.threads, m), value(row.blocks, m, arch)
            shared = u.shared + value(row.shared, m)
            blocks = occupancy(arch, u.registers, shared, threads)
            report.append((u.kernel, blocks, wanted))
            if blocks < wanted:
                wrong.append(f"{u.kernel}: {blocks} blocks of {threads} threads on a multiprocessor, designed for {wanted} "
                             f"({u.registers} registers, {shared} bytes of shared memory)")  # fmt: skip
            if u.instructions is not None:
                has, never = ([(name, found(name, u.instructions)) for name in of.split()] for of in (row.has, row.never))
                wrong += [f"{u.kernel}: no {name} in its machine code" for name, seen in has if not seen]
                wrong += [f"{u.kernel}: {seen} in its machine code, designed without {name}" for name, seen in never if seen]
    return wrong, report


def found(name: str, opcodes: frozenset[str]) -> str:
    """The first opcode that is an instruction of this name, or ""."""
    return next((o for o in sorted(opcodes) if re.fullmatch(INSTRUCTIONS[name], o)), "")


# Functions whose library code has a slow path with a table in local memory: reduction of large arguments modulo pi.
REDUCED = r"(sin|cos|tan)\b"


def _convolutions(m: int, n: int, tensor: str = "true", blocks: Any = 1) -> Row:
    """Blocks on a multiprocessor of a tile of kernels/conv_mma.cu: its slices in shared memory limit them, or its sums."""

    def shared(found: re.Match) -> int:
        tile = next(t for t in (*conv_mma.TENSOR, *conv_mma.PLAIN) if t.name == found[3])
        return conv_mma.shared(found[1], found[2], tile, 49)

    pattern = rf"(conv_mma_\w+)<(\w+), (conv_mma_::Tile<{m}, {n}, .*, {tensor}>)(, \w+)?>"
    return Row(pattern, threads=128 if tensor == "true" else 256, shared=shared, blocks=blocks, since=80)


def _products(types: str, itemsize: int, tile: int, has: str, blocks: dict[int, int]) -> Row:
    """Tiles of kernels/gemm.cu on the tensor cores: four stages of slices of both operands in shared memory."""

    def shared(found: re.Match) -> int:
        return gemm.shared_bytes(itemsize, tile, found[2] == "true", found[3] == "true")

    return Row(rf"gemm_mma<({types}), {tile}, (\w+), (\w+)>", threads=2 * tile, shared=shared, blocks=blocks, since=80,
               has=f"copy_async16 {has} shared_load16", never="local")  # fmt: skip


SMALL = r"(float|__half|__nv_bfloat16)"  # types whose kernels are measured against copies

ROWS: dict[str, list[Row]] = {
    # 2 packs of 16 bytes per array and thread: 512 threads on a multiprocessor keep 16 KB per array in flight.
    "pointwise": [
        Row(r"pointwise<(float|__half|__nv_bfloat16|bool), .*fn::(?!" + REDUCED + r").*const (float|__half|__nv_bfloat16)\*.*",
            threads=256, blocks=2, has="load16", never="local"),
        Row(r"pointwise<(?!bool).*const .*", threads=256, blocks=2, has="load16 store16"),
        Row(r"pointwise_repeated<(float|__half|__nv_bfloat16), .*", threads=256, blocks=4, has="load16 store16", never="local"),
    ],
    # 16 to 128 bytes of a row to a thread: a thousand threads keep 32 KB and more in flight. Of the long rows (wide) two
    # blocks, so that one computes while the other's row arrives in shared memory.
    "softmax": [
        Row(rf"softmax_\w+<{SMALL}, \w+, lanes<\d+>, (8|16), \d>", threads=lambda m: 512 if "512" in m[0] else 256,
            blocks=lambda m: 2 if "512" in m[0] else 4, has="load16 store16", never="local"),
        Row(rf"softmax_\w+<{SMALL}, \w+, lanes<32>, 32, \d>", threads=256, blocks=2, has="load16 store16", never="local"),
        Row(rf"softmax_\w+<{SMALL}, \w+, wide<512, 2>, .*", threads=512, blocks=2,
            has="load16 store16 copy_async16", never="local"),
        # Pieces of a few long rows: 64 bytes of each array to a thread, all on their way at once.
        Row(rf"softmax_(backward_)?parts<{SMALL}.*", threads=256, blocks=4, has="load16", never="local"),
        Row(rf"softmax_finish<{SMALL}.*", threads=256, blocks=3, has="load16 store16", never="local"),
        Row(rf"softmax_backward_finish<{SMALL}.*", threads=256, blocks=3, has="load16 store16", never="local"),
    ],
    "loss": [
        Row(rf"cross_entropy_\w+<{SMALL}, .*lanes<\d+>, (8|16), \d>", threads=lambda m: 512 if "512" in m[0] else 256,
            blocks=lambda m: 2 if "512" in m[0] else 4, has="load16", never="local"),
        Row(rf"cross_entropy_backward<{SMALL}, .*lanes.*", threads=512, blocks=1, has="load16 store16", never="local"),
        Row(rf"cross_entropy_finish<{SMALL}>", threads=512, blocks=1, never="local"),
        Row(rf"cross_entropy_\w+<{SMALL}, .*wide<512, 2>, .*", threads=512, blocks=2, has="load16", never="local"),
    ],
    "attention": [
        Row(rf"attention_weights<{SMALL}, lanes<\d+>, (8|16), \d>", threads=lambda m: 512 if "512" in m[0] else 256,
            blocks=lambda m: 2 if "512" in m[0] else 4, has="load16 store16", never="local"),
        Row(rf"attention_weights<{SMALL}, wide<512, 2>, .*", threads=512, blocks=2,
            has="load16 store16 copy_async16", never="local"),
    ],
    # Backwards, 64 registers hold two rows and two sums of columns for a block that takes many rows.
    "norm": [
        Row(rf"norm_rows<{SMALL}, \w+, \w+, lanes<\d+>, (8|16), \d>", threads=lambda m: 512 if "512" in m[0] else 256,
            blocks=lambda m: 1 if "512" in m[0] else 3, has="load16 store16", never="local"),
        Row(rf"norm_rows<{SMALL}, .*wide.*", threads=512, blocks=1, has="load16 store16 copy_async16", never="local"),
        Row(rf"norm_rows_backward<{SMALL}, \w+, \w+, lanes<(8|32|256)>, \d, \d>", threads=256, blocks=2,
            has="load16 store16", never="local"),
        Row(rf"norm_rows_backward<{SMALL}, \w+, \w+, lanes<(256|512)>, 16, \d>", threads=lambda m: int(m[2]),
            blocks=lambda m: 512 // int(m[2]), has="load16 store16", never="local"),
        Row(rf"norm_finish<{SMALL}, .*", threads=256, blocks=3, has="load16 store16", never="local"),
        Row(rf"norm_backward_parts<{SMALL}, .*", threads=256, blocks=3, has="load16", never="local"),
        Row(rf"norm_backward_finish<{SMALL}, .*", threads=256, blocks=2, has="load16 store16", never="local"),
        Row(rf"norm_channels\w*<{SMALL}, \w+, [48]>", threads=512, blocks=2, has="copy_async16 store16", never="local"),
        Row(rf"norm_(apply|dx)<{SMALL}, .*", threads=256, blocks=4, has="load16 store16", never="local"),
    ],
    # Sums of eight columns and four rows of them on their way: two blocks keep 32 KB in flight.
    "norm_columns": [
        Row(rf"column_(moments|sums)<{SMALL}, [48]>", threads=256, blocks=2, has="load16", never="local"),
        Row(rf"column_(apply|dx)<{SMALL}, .*", threads=256, blocks=3, has="load16 store16", never="local"),
    ],
    # A step's launch is one read and one write of parameters, gradients and state: two blocks of 8 warps hide the way there.
    "amp": [
        Row(r"unscale<(float|__half|__nv_bfloat16), true>", threads=256, blocks=3, has="load16 store16", never="local"),
        Row(r"unscale<(float|__half|__nv_bfloat16), false>", threads=256, blocks=4, has="load16", never="local store16"),
    ],
    "optim": [
        Row(r"(sgd|adam|rmsprop|adagrad|adadelta|adamax|nadam|radam|rprop|asgd)<(float|__half|__nv_bfloat16)\b.*", threads=256,
            blocks=2, has="load16 store16", never="local"),
        Row(r"(blend|scale_gradient|clamp_gradient)<(float|__half|__nv_bfloat16)\b.*", threads=256, blocks=2,
            has="load16 store16", never="local"),
        Row(r"norm_parts<(float|__half|__nv_bfloat16)\b.*", threads=256, blocks=2, has="load16", never="local"),
    ],
    "pool": [
        Row(rf"max_pool_(forward|backward)<{SMALL}, [123]>", threads=256, blocks=4, never="local division"),
        Row(rf"avg_pool_(forward|backward)<{SMALL}, [123]>", threads=256, blocks=4, never="local"),
        Row(rf"(max_pool_\w+|avg_pool_forward)_last<{SMALL}, [48]>", threads=256, blocks=3, has="load16 store16", never="local"),
        Row(rf"avg_pool_backward_last<{SMALL}, [48]>", threads=256, blocks=2, has="load16 store16", never="local"),
    ],
    # A digit of 10 bits has 32 KB of counts, which leaves room for four blocks.
    "index": [
        Row(r"digit_(counts|places)", threads=256, shared=32768, blocks={75: 1, 80: 4, 90: 4, 100: 4, 120: 3},
            never="local division"),
        Row(r"segment_sum<.*", threads=256, blocks=4, never="local"),
    ],
    "reduce": [Row(rf"sum_\w+<{SMALL}, \w+, (lanes<\d+>|[48])>", threads=256, blocks=4, has="load16", never="local")],
    "random": [Row(rf"dropout<{SMALL}, [48]>", threads=256, blocks=4, has="load16 store16 shuffle", never="local")],
    # A warp owns 16 or 32 rows of a result of 64 or 128 columns, and as many of its scores: registers allow two blocks of four
    # warps, or three of the smallest tiles, so that one multiplies while another takes exponentials. True float has room for
    # as many as fit.
    "flash": [
        Row(r"attention_\w+<tensor_tile<__\w+, 64, .*", threads=128, shared=55808, blocks={80: 2, 90: 2, 100: 2, 120: 1},
            has="copy_async16 ldmatrix mma store16", never="local", since=80),
        Row(r"attention_\w+<tensor_tile<__\w+, 64, 1, .*", threads=128, shared=37376, blocks={80: 3, 90: 3, 100: 3, 120: 2},
            since=80),
        Row(r"attention_\w+<tensor_tile<__\w+, 128, .*", threads=128, shared=70144, blocks={80: 2, 90: 2, 100: 2, 120: 1},
            has="copy_async16 ldmatrix mma store16", never="local", since=80),
        Row(r"attention_\w+<tensor_tile<float, 64, .*", threads=128, shared=70144, blocks={80: 2, 90: 2, 100: 2, 120: 1},
            has="copy_async16 ldmatrix mma.tf32 store16", never="local", since=80),
        Row(r"attention_\w+<tensor_tile<float, 128, .*", threads=128, shared=101632, blocks={80: 1, 90: 2, 100: 2},
            has="copy_async16 ldmatrix mma.tf32 store16", never="local", since=80),
        Row(r"attention_forward<plain_tile<64, .*", threads=64, shared=45056, blocks={75: 1, 80: 3, 90: 4, 100: 4, 120: 2},
            has="copy_async16 fma shared_load16 store16", never="local"),
        Row(r"attention_backward_\w+<plain_tile<64, .*", threads=128, shared=62720, blocks={75: 1, 80: 2, 90: 2, 100: 2, 120: 1},
            has="copy_async16 fma shared_load16 store16", never="local"),
        Row(r"attention_\w+<plain_tile<128, .*", threads=128, shared=111872, blocks={80: 1, 90: 2, 100: 2},
            has="copy_async16 fma shared_load16 store16", never="local"),
    ],
    # Of channels last a thread has four results of a chunk, of which registers allow two blocks, or nine sums of one.
    "depthwise": [
        Row(r"depthwise_column<\w+, (3|5), \d>", threads=256, blocks=2, has="fma", never="local division"),
        Row(rf"depthwise_last<{SMALL}>", threads=256, shared=49 * 144, blocks=2, has="load16 store16 fma", never="local"),
        Row(rf"depthwise_weight_last<{SMALL}>", threads=256, blocks=1, has="load16 fma", never="local"),
    ],
    "winograd": [Row(r"winograd_\w+", threads=256, blocks={75: 4, 80: 6, 90: 6, 100: 6, 120: 6}, never="local")],
    "conv": [
        Row(r"conv_\w+<float, conv_::Tile<128, .*", threads=256, blocks=1, has="fma shared_load16", never="local"),
        Row(r"conv_\w+<float, conv_::Tile<(64|32), .*", threads=256, blocks=2, has="fma shared_load16", never="local"),
    ],
    # Two blocks of the largest tile, 8 warps of 64 x 64, hide the copies; 49 taps have a table of 784 bytes.
    "conv_mma": [
        _convolutions(128, 128, blocks={80: 2, 90: 2, 100: 2, 120: 1}),
        _convolutions(64, 128, blocks={80: 2, 90: 3, 100: 3, 120: 1}),
        _convolutions(64, 64, blocks={80: 3, 90: 4, 100: 4, 120: 2}),
        _convolutions(128, 128, "false", blocks={80: 1, 90: 1, 100: 1, 120: 1}),
        _convolutions(64, 128, "false", blocks={80: 2, 90: 2, 100: 2, 120: 1}),
        Row(r"conv_mma_\w+<__half, .*true>(, false)?>", threads=128, has="copy_async16 ldmatrix mma.f16", never="local"),
        Row(r"conv_mma_\w+<__nv_bfloat16, .*true>(, false)?>", threads=128, has="copy_async16 ldmatrix mma.bf16", never="local"),
        Row(r"conv_mma_\w+<float, .*true>(, \w+)?>", threads=128, has="copy_async16 mma.tf32", never="local"),
        Row(r"conv_mma_\w+<float, .*false>(, false)?>", threads=256, has="copy_async16 shared_load16 fma", never="local mma"),
        Row(r"conv_mma_turn<\w+>", threads=256, blocks={80: 4, 90: 4, 100: 4, 120: 4}, has="load16 store16", never="local"),
    ],
    # 8 warps of 64 x 32 twice on a multiprocessor, or 4 of 32 x 32 four times: 128 registers and 80 or 40 KB each.
    "gemm": [
        *(
            _products(types, size, tile, has, blocks)
            for types, size, has in (
                ("__half", 2, "ldmatrix mma.f16"), ("__nv_bfloat16", 2, "ldmatrix mma.bf16"), ("float", 4, "mma.tf32"),
            )
            for tile, blocks in ((128, {80: 2, 90: 2, 100: 2, 120: 1}), (64, {80: 4, 90: 4, 100: 4, 120: 2}))
        ),
        Row(r"gemm_mma<float, \d+, true, \w+>", threads=128, has="ldmatrix store16", since=80),
        Row(r"gemm_mma<__\w+, .*", threads=128, has="store8", since=80),
        Row(r"gemm_fma<float, \d+>", threads=256, blocks={75: 1, 80: 2, 90: 2, 100: 2, 120: 2},
            has="copy_async16 fma shared_load16 store16", never="local mma"),
        Row(r"gemm_fma<(double|__\w+), 64>", threads=256, blocks={75: 1, 80: 2, 90: 2, 100: 2, 120: 2}, never="mma"),
        Row(r"gemm_finish<\w+>", threads=256, blocks={75: 2, 80: 4, 90: 4, 100: 4, 120: 4}),
    ],
    # A step of 64 sequences by 512 units is 128 blocks, one for each multiprocessor: a second finds room beside it, and what
    # limits them is the slices on their way, 32 KB.
    "rnn": [
        Row(r"(lstm|gru|rnn)_step(_backward)?<__half, true>", threads=256, blocks=2, since=80,
            has="copy_async16 ldmatrix mma.f16", never="local"),
        Row(r"(lstm|gru|rnn)_step(_backward)?<__nv_bfloat16, true>", threads=256, blocks=2, since=80,
            has="copy_async16 ldmatrix mma.bf16", never="local"),
        Row(r"(lstm|gru|rnn)_step(_backward)?<float, true>", threads=256, blocks=2, since=80,
            has="copy_async16 ldmatrix mma.tf32", never="local"),
        Row(r"(lstm|gru|rnn)_step(_backward)?<float, false>", threads=256, blocks={75: 1, 80: 2, 90: 2, 100: 2, 120: 2},
            has="copy_async16 shared_load16 fma", never="local mma"),
        Row(r"(lstm|gru|rnn)_step(_backward)?<double, false>", threads=256, blocks={75: 1, 80: 2, 90: 2, 100: 2, 120: 2},
            has="copy_async16 shared_load16", never="local mma"),
    ],
}
