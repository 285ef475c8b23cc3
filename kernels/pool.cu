// Pooling and its gradients, in up to three dims. One thread makes one number and gathers what belongs to it: forward,
// the elements of its window; backward, the windows of its element, a box of outputs that two divisions a dim find. So
// there are no atomics, and sums run in a fixed order.
//
// A window is regular, or adaptive if its dim has a kernel of 0: [floor(o size / out), ceil((o + 1) size / out)).
// I is the type that counts elements: unsigned where they fit, since division by 64-bit numbers is slow.
#include "common.cuh"

namespace pool_ {

struct Dim { int size, out, kernel, stride, padding, dilation; };

// The parameters of a kernel for one dim, since a launch passes no structs.
#define DIM(a) int a##_size, int a##_out, int a##_kernel, int a##_stride, int a##_padding, int a##_dilation
#define MADE(a) pool_::Dim{a##_size, a##_out, a##_kernel, a##_stride, a##_padding, a##_dilation}

// Elements first, first + every, ... below end.
struct Range { int first, end, every; };

// The elements of window o.
__device__ __forceinline__ Range window(const Dim& d, int o) {
  if (d.kernel == 0) return {int(index_t(o) * d.size / d.out), int(ceil_div(index_t(o + 1) * d.size, d.out)), 1};
  int first = o * d.stride - d.padding;
  const int end = first + (d.kernel - 1) * d.dilation + 1;
  if (first < 0) first += (-first + d.dilation - 1) / d.dilation * d.dilation;
  return {first, end < d.size ? end : d.size, d.dilation};
}

// The windows that may hold element i: all that do, and with a dilation some that step over it.
__device__ __forceinline__ Range windows(const Dim& d, int i) {
  if (d.kernel == 0) return {int(index_t(i) * d.out / d.size), int(ceil_div(index_t(i + 1) * d.out, d.size)), 1};
  const int reach = (d.kernel - 1) * d.dilation + 1, place = i + d.padding, last = place / d.stride + 1;
  return {place < reach ? 0 : (place - reach) / d.stride + 1, last < d.out ? last : d.out, 1};
}

// How many elements window o counts: those it holds, or with `padded` also the padding it covers.
__device__ __forceinline__ int length(const Dim& d, int o, bool padded) {
  if (d.kernel == 0 || !padded) {
    const Range r = window(d, o);
    return r.end > r.first ? r.end - r.first : 1;
  }
  const int first = o * d.stride - d.padding, end = first + d.kernel;
  return (end < d.size + d.padding ? end : d.size + d.padding) - first;
}

// Element `at` of planes of d x h x w.
template <class I> struct Place {
  I plane;
  int d, h, w;
  __device__ __forceinline__ Place(I at, int depth, int height, int width) {
    const I row = at / I(width), layer = row / I(height);
    w = int(at % I(width));
    h = int(row % I(height));
    d = int(layer % I(depth));
    plane = layer / I(depth);
  }
};

}  // namespace pool_

// values = the largest of each window, a NaN above all; indices = its place in the plane: of equals the first, of NaNs
// the last.
template <class T, class I>
__global__ void __launch_bounds__(256, 1) max_pool_forward(
    const T* __restrict__ x, T* __restrict__ values, index_t* __restrict__ indices, index_t size,
    DIM(d), DIM(h), DIM(w)) {
  using namespace pool_;
  const index_t at = grid_thread();
  if (at >= size) return;
  const Dim d = MADE(d), h = MADE(h), w = MADE(w);
  const Place<I> o(I(at), d.out, h.out, w.out);
  const Range rd = window(d, o.d), rh = window(h, o.h), rw = window(w, o.w);
  const T* plane = x + index_t(o.plane) * d.size * h.size * w.size;
  acc_t<T> best = -infinity<acc_t<T>>();
  int place = (rd.first * h.size + rh.first) * w.size + rw.first;
  for (int i = rd.first; i < rd.end; i += rd.every)
    for (int j = rh.first; j < rh.end; j += rh.every)
      for (int k = rw.first; k < rw.end; k += rw.every) {
        const int here = (i * h.size + j) * w.size + k;
        const acc_t<T> v = load(plane + here);
        if (v > best || v != v) best = v, place = here;
      }
  store(values + at, best);
  indices[at] = place;
}

// dx[i] = sum of g[o] over the windows o that chose i, window by window in order.
template <class T, class I>
__global__ void __launch_bounds__(256, 1) max_pool_backward(
    const T* __restrict__ g, const index_t* __restrict__ indices, T* __restrict__ dx, index_t size,
    DIM(d), DIM(h), DIM(w)) {
  using namespace pool_;
  const index_t at = grid_thread();
  if (at >= size) return;
  const Dim d = MADE(d), h = MADE(h), w = MADE(w);
  const Place<I> i(I(at), d.size, h.size, w.size);
  const Range rd = windows(d, i.d), rh = windows(h, i.h), rw = windows(w, i.w);
  const index_t plane = index_t(i.plane) * d.out * h.out * w.out;
  const int place = (i.d * h.size + i.h) * w.size + i.w;
  acc_t<T> sum = 0;
  for (int a = rd.first; a < rd.end; ++a)
    for (int b = rh.first; b < rh.end; ++b)
      for (int c = rw.first; c < rw.end; ++c) {
        const index_t o = plane + (a * h.out + b) * w.out + c;
        if (indices[o] == place) sum += load(g + o);
      }
  store(dx + at, sum);
}

// y = the sum of each window over its size, or over `divisor` unless that is 0.
template <class T, class I>
__global__ void __launch_bounds__(256, 1) avg_pool_forward(
    const T* __restrict__ x, T* __restrict__ y, index_t size, bool padded, index_t divisor, DIM(d), DIM(h), DIM(w)) {
  using namespace pool_;
  const index_t at = grid_thread();
  if (at >= size) return;
  const Dim d = MADE(d), h = MADE(h), w = MADE(w);
  const Place<I> o(I(at), d.out, h.out, w.out);
  const Range rd = window(d, o.d), rh = window(h, o.h), rw = window(w, o.w);
  const T* plane = x + index_t(o.plane) * d.size * h.size * w.size;
  acc_t<T> sum = 0;
  for (int i = rd.first; i < rd.end; ++i)
    for (int j = rh.first; j < rh.end; ++j)
      for (int k = rw.first; k < rw.end; ++k) sum += load(plane + (i * h.size + j) * w.size + k);
  const index_t count = index_t(length(d, o.d, padded)) * length(h, o.h, padded) * length(w, o.w, padded);
  store(y + at, sum / acc_t<T>(divisor ? divisor : count));
}

// dx[i] = sum over the windows o that hold i of g[o] over the window's size, window by window in order.
template <class T, class I>
__global__ void __launch_bounds__(256, 1) avg_pool_backward(
    const T* __restrict__ g, T* __restrict__ dx, index_t size, bool padded, index_t divisor, DIM(d), DIM(h), DIM(w)) {
  using namespace pool_;
  const index_t at = grid_thread();
  if (at >= size) return;
  const Dim d = MADE(d), h = MADE(h), w = MADE(w);
  const Place<I> i(I(at), d.size, h.size, w.size);
  const Range rd = windows(d, i.d), rh = windows(h, i.h), rw = windows(w, i.w);
  const T* plane = g + index_t(i.plane) * d.out * h.out * w.out;
  acc_t<T> sum = 0;
  for (int a = rd.first; a < rd.end; ++a)
    for (int b = rh.first; b < rh.end; ++b)
      for (int c = rw.first; c < rw.end; ++c) {
        const index_t count = index_t(length(d, a, padded)) * length(h, b, padded) * length(w, c, padded);
        sum += load(plane + (a * h.out + b) * w.out + c) / acc_t<T>(divisor ? divisor : count);
      }
  store(dx + at, sum);
}
