// Running sums, running products and y_i = a_i y_{i-1} + b_i, along any dimension of an array seen as (outer, n, inner);
// `back` runs them from the last element to the first.
//
// All three are the recurrence: a running sum has a = 1, a running product b = 0 and starts from 1. Each row is cut into
// chunks. A first launch stores what every chunk does to what comes before it, y -> A y + B; the same recurrence over
// these, fewer by the size of a chunk, gives the value with which each chunk begins; a second launch writes y. The order of
// all arithmetic depends on the sizes alone. Rows (inner = 1) are walked by warps, 32 neighbours a step; columns by threads.
#include "common.cuh"

// What a stretch does to the value before it: y -> a y + b. Without a, a is 1; without b, b is 0.
template <class A, bool HAS_A, bool HAS_B> struct affine {
  A a = 1, b = 0;

  // This stretch and then the other.
  __device__ __forceinline__ affine then(affine q) const {
    affine r;
    if (HAS_A) r.a = a * q.a;
    if (HAS_B) r.b = HAS_A ? q.a * b + q.b : b + q.b;
    return r;
  }
  // The value after it, from the value before.
  __device__ __forceinline__ A of(A y) const { return !HAS_B ? a * y : HAS_A ? a * y + b : y + b; }
  template <class S> __device__ __forceinline__ void load_from(const S* pa, const S* pb, index_t i) {
    if (HAS_A) a = A(to_acc<S>(pa[i]));
    if (HAS_B) b = A(to_acc<S>(pb[i]));
  }
  __device__ __forceinline__ void store_to(A* pa, A* pb, index_t i) const {
    if (HAS_A) pa[i] = a;
    if (HAS_B) pb[i] = b;
  }
  // That of the lane d below; the lowest d lanes keep the one that changes nothing.
  __device__ __forceinline__ affine below(int d) const {
    affine r;
    if (HAS_A) r.a = __shfl_up_sync(0xffffffffu, a, d);
    if (HAS_B) r.b = __shfl_up_sync(0xffffffffu, b, d);
    return int(threadIdx.x % 32) < d ? affine() : r;
  }
  __device__ __forceinline__ affine of_lane(int lane) const {
    affine r;
    if (HAS_A) r.a = __shfl_sync(0xffffffffu, a, lane);
    if (HAS_B) r.b = __shfl_sync(0xffffffffu, b, lane);
    return r;
  }
};

// One warp per chunk of a row. With totals, store what the chunk does; else write y, beginning from the chunk before's
// entry of carry.
template <class T, class S, bool HAS_A, bool HAS_B>
__global__ void __launch_bounds__(256, 4) scan_rows(
    const S* __restrict__ a, const S* __restrict__ b, T* __restrict__ y, acc_t<T>* __restrict__ total_a,
    acc_t<T>* __restrict__ total_b, const acc_t<T>* __restrict__ carry, bool back, index_t outer, index_t n,
    index_t chunk) {
  using A = acc_t<T>;
  const index_t chunks = ceil_div(n, chunk), warp = grid_thread() / 32;
  const int lane = threadIdx.x % 32;
  if (warp >= outer * chunks) return;
  const index_t row = warp / chunks, c = warp - row * chunks, begin = c * chunk;
  const index_t end = begin + chunk < n ? begin + chunk : n;
  const bool totals = total_a || total_b;
  const A before = c && !totals ? carry[warp - 1] : A(!HAS_B);
  affine<A, HAS_A, HAS_B> so_far;
  for (index_t i = begin + lane; i - lane < end; i += 32) {
    affine<A, HAS_A, HAS_B> s;
    const index_t at = row * n + (back ? n - 1 - i : i);
    if (i < end) s.load_from(a, b, at);
#pragma unroll
    for (int d = 1; d < 32; d *= 2) s = s.below(d).then(s);
    s = so_far.then(s);
    if (!totals && i < end) store(y + at, s.of(before));
    so_far = s.of_lane(31);
  }
  if (totals && lane == 0) so_far.store_to(total_a, total_b, warp);
}

// One thread per column of a chunk.
template <class T, class S, bool HAS_A, bool HAS_B>
__global__ void __launch_bounds__(256, 4) scan_columns(
    const S* __restrict__ a, const S* __restrict__ b, T* __restrict__ y, acc_t<T>* __restrict__ total_a,
    acc_t<T>* __restrict__ total_b, const acc_t<T>* __restrict__ carry, bool back, index_t outer, index_t n,
    index_t inner, index_t chunk) {
  using A = acc_t<T>;
  const index_t chunks = ceil_div(n, chunk), place = grid_thread();
  if (place >= outer * chunks * inner) return;
  const index_t stretch = place / inner, column = place - stretch * inner;
  const index_t row = stretch / chunks, c = stretch - row * chunks, begin = c * chunk;
  const index_t end = begin + chunk < n ? begin + chunk : n;
  const index_t first = (row * n + (back ? n - 1 : 0)) * inner + column, step = back ? -inner : inner;
  affine<A, HAS_A, HAS_B> s;
  if (total_a || total_b) {
    affine<A, HAS_A, HAS_B> all;
    for (index_t i = begin; i < end; ++i) {
      s.load_from(a, b, first + i * step);
      all = all.then(s);
    }
    all.store_to(total_a, total_b, place);
    return;
  }
  A value = c ? carry[place - inner] : A(!HAS_B);
  for (index_t i = begin; i < end; ++i) {
    s.load_from(a, b, first + i * step);
    value = s.of(value);
    store(y + first + i * step, value);
  }
}
