"""The stand-in card does what CuPy and a GPU would do, and catches what they would let pass."""

import gc
import shutil
import threading

import numpy as np
import pytest

if not (shutil.which("g++") or shutil.which("c++")):
    pytest.skip("the stand-in card needs a C++ compiler", allow_module_level=True)

import card
from card import CardError, source

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

TEXT = r"""
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <cstdint>

// The sum of a block's values: warps by shuffles, then one warp over the partial sums. __shared__ float never[];
__device__ __forceinline__ float block_sum(float v) {
  __shared__ float part[32];
  for (int d = 16; d > 0; d >>= 1) v += __shfl_down_sync(0xffffffffu, v, d);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  v = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0.f;
  if (threadIdx.x < 32)
    for (int d = 16; d > 0; d >>= 1) v += __shfl_down_sync(0xffffffffu, v, d);
  return v;
}

extern "C" __global__ void __launch_bounds__(256) sums(const float* __restrict__ x, float* y, long long n) {
  float s = 0;
  const long long step = (long long)blockDim.x * gridDim.x;
  for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += step) s += x[i];
  s = block_sum(s);
  if (threadIdx.x == 0) y[blockIdx.x] = s;
}

template <typename T, int N>
__global__ void reverse_rows(const T* x, T* y) {
  extern __shared__ __align__(16) unsigned char raw[];
  T* row = reinterpret_cast<T*>(raw);
  __shared__ T tile[N][N + 1], spare[2];
  if (threadIdx.x < 2) spare[threadIdx.x] = T(0.f);
  const int c = threadIdx.x, r = threadIdx.y;
  if (r == 0) row[c] = x[blockIdx.x * N + c];
  tile[r][c] = T(1.f);
  __syncthreads();
  if (r == 0) y[blockIdx.x * N + c] = row[N - 1 - c] * tile[c][c] + spare[c % 2];
}

template <typename T> __global__ void axpy(const T* x, T* y, float a, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = T(a * float(x[i]) + float(y[i]));
}

extern "C" __global__ void racing_sum(const float* x, float* y) { atomicAdd(y, x[blockIdx.x * 32 + threadIdx.x]); }

extern "C" __global__ void histogram(const int* x, unsigned* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) atomicAdd(&y[x[i]], 1u);
}

extern "C" __global__ void warps(int* y) {
  const unsigned all = 0xffffffffu, lane = threadIdx.x % 32;
  y += threadIdx.x * 6;
  y[0] = __ballot_sync(all, lane % 3 == 0);
  y[1] = __shfl_sync(all, int(lane) * 10, 5);
  y[2] = __shfl_xor_sync(all, int(lane), 3, 8);
  y[3] = __reduce_add_sync(all, int(lane));
  y[4] = __match_any_sync(all, lane / 8);
  y[5] = __syncthreads_count(lane == 0);
}

struct Pair { int* data; int sum; };
extern "C" __global__ void whole_warp(int* y) {
  Pair mine{y + threadIdx.x, 0};
  card::warp_call<Pair>(&mine, [](Pair* const* lanes) {
    int s = 0;
    for (int i = 0; i < 32; ++i) s += *lanes[i]->data;
    for (int i = 0; i < 32; ++i) lanes[i]->sum = s;
  });
  *mine.data = mine.sum;
}

extern "C" __global__ void staged(const float* x, float* y, int wait) {
  __shared__ __align__(16) float tile[128];
  card::copy_async(&tile[threadIdx.x * 4], x + threadIdx.x * 4, 16);
  card::copy_commit();
  if (wait) card::copy_wait(0);
  __syncthreads();
  for (int k = 0; k < 4; ++k) y[threadIdx.x * 4 + k] = tile[(threadIdx.x * 4 + k + 64) % 128];
}

extern "C" __global__ void missing_barrier(const float* x, float* y) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  y[blockIdx.x * 64 + threadIdx.x] = s[63 - threadIdx.x];
}

extern "C" __global__ void early_exit(float* y) {  // allowed: a barrier waits for the threads that are still there
  if (threadIdx.x >= 40) return;
  y[threadIdx.x] = __shfl_down_sync(0xffffffffu, float(threadIdx.x), 1);
  __syncthreads();
}

extern "C" __global__ void write_at(float* y, long long i) { y[i] = 1.f; }
extern "C" __global__ void read_at(const float* x, float* y, long long i) { y[0] = x[i]; }
extern "C" __global__ void divide(int* y, int n) { y[0] = 7 / n; }
extern "C" __global__ void vectors(float* y, int shift) { *(float4*)(y + shift) = make_float4(1, 2, 3, 4); }
extern "C" __global__ void local_index(float* y, int n) {
  float a[4] = {0, 1, 2, 3};
  y[0] = a[n];
}
extern "C" __global__ void row_index(float* y, int n) {
  __shared__ float tile[4][8];
  tile[n][0] = 1.f;
  y[0] = tile[n][0];
}
extern "C" __global__ void dynamic_index(float* y, int n) {
  extern __shared__ float tail[];
  tail[n] = 1.f;
}
extern "C" __global__ void deep(float* y, int n) {
  volatile float big[100000];
  for (int i = 0; i < 100000; ++i) big[i] = i;
  y[0] = big[n];
}
extern "C" __global__ void two_barriers(float* y) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    y[threadIdx.x] = 0;
    __syncthreads();
  }
}
extern "C" __global__ void barrier_and_warp(float* y) {
  if (threadIdx.x == 0) __syncthreads();
  else __syncwarp();
}
extern "C" __global__ void wrong_mask(float* y) { y[0] = __shfl_sync(1u, 1.f, 0); }
extern "C" __global__ void asserts(int n) { assert(threadIdx.x < n); }
extern "C" __global__ void spins(volatile int* y) { while (*y == 0) {} }
extern "C" __global__ void half_written(float* y) { if (threadIdx.x % 2) y[threadIdx.x] = 1.f; }
extern "C" __global__ void scalars(long long* y, bool b, signed char c, short h, int i, long long l, float f, double d,
                                   __half e) {
  y[0] = b, y[1] = c, y[2] = h, y[3] = i, y[4] = l, y[5] = f, y[6] = d, y[7] = float(e);
}
extern "C" __global__ void grid_of_blocks(int* y) {
  y[((blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x) * 24 +
    (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x] =
      blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z;
}
"""
NAMES = ["reverse_rows<float, 8>", "reverse_rows<double, 16>", "axpy<float>", "axpy<__half>", "axpy<__nv_bfloat16>"]


@pytest.fixture(scope="module")
def kernels():
    module = card.RawModule(code=TEXT, options=("-std=c++17",), name_expressions=NAMES)
    return module.get_function


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ---- kernels that are right ----


@pytest.mark.parametrize("n", [1, 31, 256, 100_003])
def test_block_sums(kernels, rng, n):
    x = rng.random(n, dtype=np.float32)
    y = card.empty(5, np.float32)
    kernels("sums")((5,), (256,), (card.asarray(x), y, n))
    np.testing.assert_allclose(y.get().sum(dtype=np.float64), x.sum(dtype=np.float64), rtol=1e-5)


def test_repeats_bit_for_bit(kernels, rng):
    x, runs = card.asarray(rng.random(5000, dtype=np.float32)), []
    for _ in range(3):
        y = card.empty(4, np.float32)
        kernels("sums")((4,), (128,), (x, y, 5000))
        runs.append(y.tobytes())
    assert len(set(runs)) == 1


def test_results_that_depend_on_the_order_differ(kernels, rng):
    x, runs = card.asarray(rng.random(256, dtype=np.float32)), set()
    for _ in range(2):
        y = card.zeros(1, np.float32)
        kernels("racing_sum")((8,), (32,), (x, y))
        runs.add(y.item())
    assert len(runs) == 2


@pytest.mark.parametrize(("name", "dtype", "n"), [("float, 8", "f4", 8), ("double, 16", "f8", 16)])
def test_templates_and_dynamic_shared_memory(kernels, rng, name, dtype, n):
    x = rng.random((3, n)).astype(dtype)
    y = card.empty((3, n), dtype)
    kernels(f"reverse_rows<{name}>")((3,), (n, n), (card.asarray(x), y), shared_mem=n * x.itemsize)
    np.testing.assert_array_equal(y.get(), x[:, ::-1])


@pytest.mark.parametrize(
    ("name", "dtype"), [("float", np.float32), ("__half", np.float16), ("__nv_bfloat16", bfloat16)]
)
def test_half_precision_rounds_as_numpy(kernels, rng, name, dtype):
    if dtype is None:
        pytest.skip("ml_dtypes is not installed")
    x, y = rng.normal(size=(2, 3000)).astype(np.float32) * np.exp(rng.uniform(-12, 12, (2, 3000)).astype(np.float32))
    with np.errstate(over="ignore"):
        x, y = x.astype(dtype), y.astype(dtype)
    out = card.asarray(y)
    kernels(f"axpy<{name}>")((12,), (256,), (card.asarray(x), out, np.float32(1.5), np.int32(3000)))
    with np.errstate(over="ignore"):
        expected = (np.float32(1.5) * x.astype(np.float32) + y.astype(np.float32)).astype(dtype)
    np.testing.assert_array_equal(out.get().view(np.uint8), expected.view(np.uint8))


def test_every_half_survives_the_round_trip(kernels):
    bits = np.arange(1 << 16, dtype=np.uint16)
    x = bits.view(np.float16)
    x = x[np.isfinite(x) & (x != 0)]
    y = card.zeros(x.size, np.float16)
    kernels("axpy<__half>")((256,), (256,), (card.asarray(x), y, np.float32(1), np.int32(x.size)))
    np.testing.assert_array_equal(y.get(), x)


def test_atomics(kernels, rng):
    x = rng.integers(0, 10, 1000, dtype=np.int32)
    y = card.zeros(10, np.uint32)
    kernels("histogram")((8,), (128,), (card.asarray(x), y, np.int32(1000)))
    np.testing.assert_array_equal(y.get(), np.bincount(x, minlength=10))


def test_warp_functions(kernels):
    y = card.empty((64, 6), np.int32)
    kernels("warps")((1,), (64,), (y,))
    lane = np.arange(64) % 32
    ballot = sum(1 << i for i in range(0, 32, 3))
    match = np.array([0xFF << (i // 8 * 8) for i in range(32)] * 2, np.int64).astype(np.uint32).view(np.int32)
    columns = [
        np.full(64, ballot, np.uint32).view(np.int32),
        np.full(64, 50),
        lane ^ 3,
        np.full(64, 496),
        match,
        np.full(64, 2),
    ]
    np.testing.assert_array_equal(y.get(), np.stack(columns, 1))


def test_a_function_for_a_whole_warp(kernels):
    y = card.arange(64, dtype=np.int32)
    kernels("whole_warp")((1,), (64,), (y,))
    np.testing.assert_array_equal(y.get(), np.repeat([496, 496 + 32 * 32], 32))


def test_asynchronous_copies_arrive_at_the_wait(kernels):
    x = card.arange(128, dtype=np.float32)
    y = card.empty_like(x)
    kernels("staged")((1,), (32,), (x, y, np.int32(1)))
    np.testing.assert_array_equal(y.get(), np.roll(np.arange(128), -64))
    kernels("staged")((1,), (32,), (x, y, np.int32(0)))
    assert np.isnan(y.get()).all()


def test_grid_and_block_have_three_dimensions(kernels):
    y = card.empty((4, 3, 2, 24), np.int32)
    kernels("grid_of_blocks")((2, 3, 4), (2, 3, 4), (y,))
    z, yy, x = np.mgrid[:4, :3, :2]
    np.testing.assert_array_equal(y.get(), np.broadcast_to((x + 10 * yy + 100 * z)[..., None], y.shape))


def test_exited_threads_hold_up_nobody(kernels):
    y = card.zeros(64, np.float32)
    kernels("early_exit")((1,), (64,), (y,))
    assert y.get()[:31].tolist() == list(range(1, 32))


def test_scalars_arrive_by_type(kernels):
    y = card.empty(8, np.int64)
    values = (True, np.int8(-3), np.int16(-300), np.int32(-70000), 1 << 40, np.float32(5), 6.0, np.float16(7))
    kernels("scalars")((1,), (1,), (y, *values))
    assert y.tolist() == [1, -3, -300, -70000, 1 << 40, 5, 6, 7]


def test_raw_kernel_and_options():
    text = 'extern "C" __global__ void fill(int* y) { y[threadIdx.x] = VALUE; }'
    for value in (3, 4):
        kernel = card.RawKernel(text, "fill", options=(f"-DVALUE={value}",))
        y = card.empty(5, np.int32)
        kernel((1,), (5,), (y,))
        assert y.tolist() == [value] * 5


# ---- kernels that are wrong ----


@pytest.mark.parametrize("at", [12, 13, 1000, 1 << 19])
def test_write_past_the_end(kernels, at):
    with pytest.raises(
        CardError, match=rf"kernel write_at: illegal write to byte {4 * at} of an allocation of 48 bytes"
    ):
        kernels("write_at")((1,), (1,), (card.zeros(12, np.float32), at))


@pytest.mark.parametrize("at", [12, 13, 5000])
def test_read_past_the_end(kernels, at):
    x, y = card.zeros(12, np.float32), card.zeros(1, np.float32)
    with pytest.raises(CardError, match=r"kernel read_at: illegal read from byte \d+ of an allocation of 48 bytes"):
        kernels("read_at")((1,), (1,), (x, y, at))


@pytest.mark.parametrize(
    "at", [-1, -7, -2000, 9]
)  # 9: the array has 9 elements, the memory ends at a multiple of 16 bytes
def test_stray_writes_near_the_array_break_a_red_zone(kernels, at):
    with pytest.raises(CardError, match=r"kernel write_at: (something wrote|illegal write)"):
        kernels("write_at")((1,), (1,), (card.zeros(9, np.float32), at))


def test_stray_reads_near_the_array_are_nan(kernels):
    x, y = card.zeros(9, np.float32), card.zeros(1, np.float32)
    for at in (-1, 9):
        kernels("read_at")((1,), (1,), (x, y, at))
        assert np.isnan(y.item())


def test_empty_arrays_have_no_memory(kernels):
    x = card.zeros(0, np.float32)
    assert x.data.ptr == 0
    with pytest.raises(CardError, match="null pointer"):
        kernels("write_at")((1,), (1,), (x, 0))


def test_errors_say_where(kernels):
    line = 1 + TEXT[: TEXT.index("void write_at")].count("\n")
    with pytest.raises(CardError, match=rf"block \(2, 0, 0\), thread \(0, 0, 0\)(, line {line})?\]"):
        card.RawKernel(TEXT.replace("y[i] = 1.f", "if (blockIdx.x == 2) y[i] = 1.f"), "write_at")(
            (4,), (1,), (card.zeros(4, np.float32), 4)
        )


def test_unwritten_output_is_nan(kernels):
    y = card.empty(6, np.float32)
    kernels("half_written")((1,), (6,), (y,))
    assert np.isnan(y.get()).tolist() == [True, False] * 3
    assert (card.empty(4, np.int64).get() != 0).all()
    assert np.isnan(card.empty_like(y).get()).all()


def test_missing_barrier_reads_poison(kernels):
    y = card.empty(128, np.float32)
    kernels("missing_barrier")((2,), (64,), (card.ones(64, np.float32), y))
    assert np.isnan(y.get().reshape(2, 64)).any(axis=1).all()


WRONG = [
    ("two_barriers", 64, (None,), "divergent barrier: this thread waits at line"),
    ("barrier_and_warp", 32, (None,), "deadlock"),
    ("wrong_mask", 32, (None,), "its mask 00000001 leaves out"),
    ("asserts", 8, (np.int32(5),), r"assertion failed: threadIdx.x < n .*thread \([57], 0, 0\)"),
    ("divide", 1, ("i4", np.int32(0)), "integer division by zero"),
    ("vectors", 1, ("f4", np.int32(1)), "misaligned address .* for 'struct float4'"),
    ("local_index", 1, ("f4", np.int32(4)), r"index 4 is outside 'float \[4\]'"),
    ("row_index", 1, ("f4", np.int32(4)), r"index 4 is outside 'float \[4\]\[8\]'"),
    ("deep", 1, ("f4", np.int32(4)), "the end of a thread's stack"),
    ("dynamic_index", 1, ("f4", np.int32(0)), "illegal write to byte 0 of a shared array of 0 bytes"),
]


@pytest.mark.parametrize(("name", "threads", "args", "message"), WRONG, ids=[w[0] for w in WRONG])
def test_wrong_kernels_raise(kernels, name, threads, args, message):
    arrays = {t: card.zeros(64, t) for t in ("i4", "f4")}
    args = tuple(arrays["f4"] if a is None else arrays.get(a, a) if isinstance(a, str) else a for a in args)
    for _ in range(2):  # in either order of the threads, and the card is still usable
        with pytest.raises(CardError, match=message):
            kernels(name)((1,), (threads,), args)
    y = card.zeros(1, "f4")
    kernels("write_at")((1,), (1,), (y, 0))
    assert y.item() == 1


def test_a_hanging_kernel_ends(kernels, monkeypatch):
    monkeypatch.setattr("card.kernel.patience", 0.2)
    with pytest.raises(CardError, match="still running"):
        kernels("spins")((1,), (1,), (card.zeros(1, np.int32),))


# ---- launches that are wrong ----


def test_arguments_are_checked(kernels):
    f, x = kernels("axpy<float>"), card.zeros(8, np.float32)
    for args, message in [
        ((x, x, np.float32(1), 8), r"argument 3 is int .*int64, 8 bytes.* parameter is int32 \(4 bytes\)"),
        ((x, x, 1.0, np.int32(8)), r"argument 2 is float .*float64, 8 bytes"),
        ((x, x, np.int32(1), np.int32(8)), r"argument 2 is int32 .* the parameter is float32"),
        (
            (x, x.astype("f8"), np.float32(1), np.int32(8)),
            r"argument 1 is an array of float64, the parameter is float32\*",
        ),
        ((x, x.view("i4"), np.float32(1), np.int32(8)), r"argument 1 is an array of int32"),
        ((x, np.zeros(8, "f4"), np.float32(1), np.int32(8)), "Unsupported type <class 'numpy.ndarray'>"),
        ((x, x, np.float32(1)), "has 4 parameters, the launch gives 3"),
        ((x, x, x, np.int32(8)), "argument 2 is an array, the parameter is float32"),
    ]:
        with pytest.raises(TypeError, match=message):
            f((1,), (8,), args)


def test_launch_limits(kernels):
    f, y = kernels("dynamic_index"), card.zeros(1, np.float32)
    with pytest.raises(CardError, match="more than 256 threads"):
        kernels("sums")((1,), (512,), (y, y, 1))
    for grid, block in [((0,), (32,)), ((1, 70000), (32,)), ((1,), (1025,)), ((1,), (32, 64)), ((1,), (1, 1, 65))]:
        with pytest.raises(CardError, match="CUDA_ERROR_INVALID_VALUE"):
            f(grid, block, (y, np.int32(0)))
    with pytest.raises(CardError, match="50000 bytes of dynamic shared memory"):
        f((1,), (32,), (y, np.int32(0)), shared_mem=50_000)
    f.max_dynamic_shared_size_bytes = 100_000
    f((1,), (32,), (y, np.int32(24_999)), shared_mem=100_000)


def test_names_are_found_as_cupy_finds_them():
    text = "template <class T> __global__ void f(T* y) { y[0] = T(1); } __global__ void g() {}"
    module = card.RawModule(code=text, options=("-std=c++17",), name_expressions=("f<int>",))
    y = card.zeros(1, np.int32)
    module.get_function("f<int>")((1,), (1,), (y,))
    assert y.item() == 1
    for missing in ("f<float>", "g"):
        with pytest.raises(CardError, match="named symbol not found"):
            module.get_function(missing)
    with pytest.raises(card.CompileException, match=r"syntax|expected|declared"):
        card.RawModule(code='extern "C" __global__ void f( { nonsense }').get_function("f")


def test_shared_declarations_keep_their_lines():
    text = (
        "__shared__ float a[2],\n  b[3][4]; // __shared__ int c;\n"
        'extern __shared__ __align__(16) char d[];\n"__shared__ int e;"'
    )
    out = source.translate(text)
    assert out.count("\n") == text.count("\n")
    assert out.count("card_shared_array") == 2
    assert "dynamic_shared" in out
    assert "__shared__ int c" in out
    assert '"__shared__ int e;"' in out


# ---- ElementwiseKernel ----


def test_elementwise_broadcasts_and_takes_strides(rng):
    f = card.ElementwiseKernel("T x, T y, float64 a", "T z", "z = x * y + T(a)", "mul_add")
    x, y = rng.random((4, 1, 6)), rng.random((5, 6))
    for dtype in ("f4", "f8"):
        xd, yd = x.astype(dtype), y.astype(dtype)
        np.testing.assert_array_equal(f(card.asarray(xd), card.asarray(yd), 2.0).get(), xd * yd + xd.dtype.type(2))
        wide = card.asarray(np.asfortranarray(yd))[::2, ::-1]
        np.testing.assert_array_equal(f(wide, wide, 0).get(), (yd[::2, ::-1]) ** 2)
    out = card.empty((6, 4), "f4").T
    x = card.asarray(rng.random((4, 6), dtype=np.float32))
    assert f(x, x, 0, out) is out
    np.testing.assert_array_equal(out.get(), x.get() ** 2)


def test_elementwise_types_and_raw():
    f = card.ElementwiseKernel("raw T x, int64 n", "raw T y", "y[i] = x[n - 1 - i]", "flip")
    x = card.arange(6, dtype="f4")
    y = card.empty(6, "f4")
    f(x, 6, y, size=6)
    assert y.tolist() == [5, 4, 3, 2, 1, 0]
    g = card.ElementwiseKernel("T x, T y", "T z, bool big", "z = x + y; big = z > T(2)", "two")
    z, big = g(x, np.float64(1))
    assert (z.dtype, big.dtype) == (np.float32, np.bool_)
    assert big.tolist() == [False, False, True, True, True, True]
    with pytest.raises(TypeError, match="Type is mismatched"):
        g(x, x.astype("f8"))
    with pytest.raises(TypeError, match="Unsupported type"):
        g(x, np.zeros(6, "f4"))
    with pytest.raises(ValueError, match="Loop size is undecided"):
        g(1.0, 2.0)
    assert g(card.zeros((0, 3), "f4"), 1)[0].shape == (0, 3)


@pytest.mark.parametrize("dtype", [np.float16, bfloat16, np.int8, np.int64, np.bool_, np.complex64])
def test_elementwise_dtypes(dtype):
    if dtype is None:
        pytest.skip("ml_dtypes is not installed")
    f = card.ElementwiseKernel("T x", "T y", "y = x * x", "square")
    x = np.array([0, 1, 2, 3]).astype(dtype)
    np.testing.assert_array_equal(f(card.asarray(x)).get(), x * x)


# ---- arrays ----


def test_host_and_device_do_not_mix():
    x, h = card.ones((2, 3), "f4"), np.ones((2, 3), "f4")
    for f in (
        lambda: x + h, lambda: h + x, lambda: np.add(x, h), lambda: card.add(x, h), lambda: np.concatenate([x, h]),
        lambda: card.concatenate([x, h]), lambda: x @ h.T, lambda: card.where(x > 0, x, h), lambda: np.array(3.0) * x,
    ):  # fmt: skip
        with pytest.raises(TypeError):
            f()
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        np.asarray(x)
    with pytest.raises(TypeError):
        h[...] = x
    with pytest.raises(TypeError, match="Unsupported type"):
        x[...] = h
    with pytest.raises(TypeError, match="Unsupported type"):
        x[np.array([0])]
    x += 1
    assert (np.float32(2) * x).dtype == np.float32
    assert (x.sum() * 2).get() == 24


def test_numpy_functions_dispatch():
    x = card.arange(6, dtype="f8").reshape(2, 3)
    assert all(
        isinstance(r, card.ndarray) for r in (np.tanh(x), np.concatenate([x, x]), np.sum(x), np.add.reduce(x, 0), x.T)
    )
    np.testing.assert_array_equal(np.einsum("ij,ij->i", x, x).get(), [5, 50])
    assert isinstance(card.linalg.norm(x), card.ndarray)
    assert card.fft.rfft(x).dtype == np.complex128
    out = card.empty_like(x)
    assert np.exp(x, out=out) is out
    np.add.at(out, (card.asarray([0, 0]), card.asarray([1, 1])), 1.0)
    assert card.asarray(x) is x
    with pytest.raises(AttributeError):
        _ = card.no_such_function
    with pytest.raises(CardError, match="names an element twice"):
        out[0][card.asarray([0, 0])] = card.asarray([1.0, 2.0])
    with pytest.raises(TypeError, match="not supported"):
        card.add.at(card.zeros(2, "c8"), card.asarray([0]), 1)


def test_reductions_give_arrays():
    x = card.arange(6, dtype="f4")
    for r in (x.sum(), x.mean(), x.max(), x.argmax(), card.sum(x), x.any(), card.allclose(x, x), x[2]):
        assert isinstance(r, card.ndarray)
        assert r.shape == ()
    assert float(x[2]) == 2
    assert [int(v) for v in x[:2]] == [0, 1]


def test_indexing_and_views():
    h = np.arange(24.0).reshape(4, 6)
    x = card.asarray(h)
    view = x[1:, ::2]
    assert view.base is x
    assert x.base is None
    assert view[0].base is x
    assert view.data.ptr == x.data.ptr + 48
    view[...] = 0
    h[1:, ::2] = 0
    x[card.asarray([0, 0, 2]), 1] = 7
    h[[0, 0, 2], 1] = 7
    x[x > 20] = -1
    h[h > 20] = -1
    np.testing.assert_array_equal(x.get(), h)
    np.testing.assert_array_equal(
        x[None, card.asarray([True, False, True, False])].get(), h[None, [True, False, True, False]]
    )
    windows = card.lib.stride_tricks.as_strided(x, (3, 3), (8, 8))
    assert windows.base is x
    assert card.shares_memory(windows, x)
    assert x.T.flags.f_contiguous
    assert not view.flags.c_contiguous
    assert (x * 2).flags.owndata
    assert card.ndarray((2,), "f8", x.data + 8).tolist() == h[0, 1:3].tolist()
    assert x.__cuda_array_interface__["data"] == (x.data.ptr, False)


def test_memory_is_counted_and_given_back():
    pool = card.get_default_memory_pool()
    gc.collect()
    before = pool.used_bytes()
    x = card.zeros(1000, "f4")
    view = x[5:]
    assert pool.used_bytes() - before == 4096
    del x
    assert pool.used_bytes() - before == 4096
    del view
    assert pool.used_bytes() == before
    pool.free_all_blocks()
    assert pool.total_bytes() == pool.used_bytes()
    own = card.cuda.MemoryPool()
    with card.cuda.using_allocator(own.malloc):
        y = card.zeros(10)
    assert own.used_bytes() == 512
    del y
    assert own.used_bytes() == 0
    own.set_limit(size=1024)
    with card.cuda.using_allocator(own.malloc), pytest.raises(card.OutOfMemoryError):
        card.zeros(1000)


def test_counts():
    card.counts.reset()
    x = card.asarray(np.ones(3, "f4"))
    y = x + x
    float(y[0])
    assert (card.counts.device_copies, card.counts.host_copies, card.counts.allocations, card.counts.launches) == (
        1,
        1,
        2,
        0,
    )
    card.ElementwiseKernel("T x", "T y", "y = x", "copy")(y)
    assert card.counts.launches == 1


def test_streams_events_graphs(kernels):
    with card.cuda.Stream(non_blocking=True) as stream:
        assert card.cuda.get_current_stream() == stream
        x, y = card.arange(4, dtype="f4"), card.zeros(4, "f4")
        stream.begin_capture()
        kernels("axpy<float>")((1,), (4,), (x, y, np.float32(2), np.int32(4)))
        z = y * 10
        y += 1
        with pytest.raises(RuntimeError, match="not allowed while a stream captures"):
            y.get()
        with pytest.raises(NotImplementedError, match="capture"):
            x @ x
        graph = stream.end_capture()
        y.fill(0)
        graph.launch()
        assert (z.tolist(), y.tolist()) == ([0, 20, 40, 60], [1, 3, 5, 7])
        graph.launch()
        assert y.tolist() == [2, 6, 10, 14]
    assert card.cuda.get_current_stream() == card.cuda.Stream.null
    start, end = stream.record(), stream.record()
    assert card.cuda.get_elapsed_time(start, end) >= 0
    assert card.cuda.runtime.getDeviceCount() == 1
    assert card.cuda.Device(0).compute_capability == "90"


def test_threads_take_turns(kernels):
    results = []

    def work(k):
        for _ in range(20):
            y = card.empty(4, "f4")
            kernels("sums")((4,), (64,), (card.full(999, k, "f4"), y, 999))
            results.append(float(y.sum()) == 999 * k)

    threads = [threading.Thread(target=work, args=(k,)) for k in (1, 2, 3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [True] * 60
