// Pooling and its gradients, in up to three dims. A number of the result gathers what belongs to it: forward, the elements of
// its window; backward, the windows of its element, a box of outputs. So there are no atomics, and sums run in a fixed order.
//
// What a number costs is its place: divisions by sizes and strides are products with a reciprocal that the launcher finds.
// Forward, neighbouring threads take neighbouring outputs, for U outputs each; the windows of images that nets have, K x K
// without dilation, are loaded whole before they are compared. Backward, a thread makes two neighbours, the place of the
// second following from the first one's; where at most M windows of a dim hold an element (M = ceil(kernel / stride), 1 or 2)
// there are no loops. K = 0 and M = 0 take everything.
//
// Where channels are last a thread takes a pack of them, of one window or of one element: 16 bytes at each place.
//
// A window is regular, or adaptive if its dim has a kernel of 0: [floor(o size / out), ceil((o + 1) size / out)).
// Elements are counted in 32 bits: the launcher cuts larger arrays by planes, or by samples.
#include "common.cuh"

namespace pool_ {

// n / d for n < 2^31, by a product (Granlund and Montgomery 1994): the launcher makes m and s.
struct Divisor {
  unsigned m;
  int s;
  __device__ __forceinline__ int of(int n) const { return int((__umulhi(unsigned(n), m) + unsigned(n)) >> s); }
};

// count divides by the numbers that threads make along this dim, step by the stride.
struct Dim { int size, out, kernel, stride, padding, dilation; Divisor count, step; };

// The parameters of a kernel for one dim, since a launch passes no structs.
#define DIM(a)                                                                                                    \
  int a##_size, int a##_out, int a##_kernel, int a##_stride, int a##_padding, int a##_dilation, unsigned a##_m,   \
      int a##_s, unsigned a##_step_m, int a##_step_s
#define MADE(a)                                                                                                       \
  pool_::Dim {                                                                                                        \
    a##_size, a##_out, a##_kernel, a##_stride, a##_padding, a##_dilation, {a##_m, a##_s}, { a##_step_m, a##_step_s } \
  }

// Elements first, first + every, ... below end.
struct Range { int first, end, every; };

__device__ __forceinline__ int share_of(int i, int n, int m) { return int(index_t(i) * n / m); }

// The elements of window o.
__device__ __forceinline__ Range window(const Dim& d, int o) {
  if (d.kernel == 0) return {share_of(o, d.size, d.out), int(ceil_div(index_t(o + 1) * d.size, d.out)), 1};
  int first = o * d.stride - d.padding;
  const int end = first + (d.kernel - 1) * d.dilation + 1;
  if (first < 0) first += d.dilation == 1 ? -first : (-first + d.dilation - 1) / d.dilation * d.dilation;
  return {first, end < d.size ? end : d.size, d.dilation};
}

// The windows that may hold element i: all that do, and with a dilation some that step over it.
__device__ __forceinline__ Range windows(const Dim& d, int i) {
  if (d.kernel == 0) return {share_of(i, d.out, d.size), int(ceil_div(index_t(i + 1) * d.out, d.size)), 1};
  const int reach = (d.kernel - 1) * d.dilation + 1, place = i + d.padding, last = d.step.of(place) + 1;
  return {place < reach ? 0 : d.step.of(place - reach) + 1, last < d.out ? last : d.out, 1};
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

// Element `at` of planes of d x h x w, and the next.
struct Place {
  int plane, d, h, w;
  __device__ __forceinline__ Place(int at, const Dim& dim_d, int depth, const Dim& dim_h, int height, const Dim& dim_w, int width) {
    const int row = dim_w.count.of(at), layer = dim_h.count.of(row);
    w = at - row * width;
    h = row - layer * height;
    plane = dim_d.count.of(layer);
    d = layer - plane * depth;
  }
  __device__ __forceinline__ void next(int depth, int height, int width) {
    if (++w < width) return;
    w = 0;
    if (++h < height) return;
    h = 0;
    if (++d < depth) return;
    d = 0, ++plane;
  }
};

// The K x K elements of a window of a plane, of height x width; `otherwise` outside.
template <int K, class T> struct Window {
  acc_t<T> v[K * K];
  unsigned inside;  // a bit for each
  int first, width;
  __device__ __forceinline__ Window(const T* plane, const Dim& h, const Dim& w, int oh, int ow, acc_t<T> otherwise) {
    const int i = oh * h.stride - h.padding, j = ow * w.stride - w.padding;
    width = w.size, first = i * width + j, inside = 0;
#pragma unroll
    for (int k = 0; k < K * K; ++k) {
      const bool in = unsigned(i + k / K) < unsigned(h.size) && unsigned(j + k % K) < unsigned(w.size);
      v[k] = in ? load(plane + place(k)) : otherwise;
      inside |= unsigned(in) << k;
    }
  }
  __device__ __forceinline__ int place(int k) const { return first + k / K * width + k % K; }
  __device__ __forceinline__ bool in(int k) const { return inside >> k & 1; }
};

}  // namespace pool_

// values = the largest of each window, a NaN above all; indices = its place in the plane: of equals the first, of NaNs
// the last.
template <class T, int K>
__global__ void __launch_bounds__(256, K ? 4 : 2) max_pool_forward(
    const T* __restrict__ x, T* __restrict__ values, index_t* __restrict__ indices, int size, DIM(d), DIM(h), DIM(w)) {
  using namespace pool_;
  constexpr int U = 2;
  const Dim d = MADE(d), h = MADE(h), w = MADE(w);
  acc_t<T> best[U];
  int place[U];
#pragma unroll
  for (int u = 0; u < U; ++u) {
    const int at = blockIdx.x * (U * 256) + u * 256 + threadIdx.x;
    if (at >= size) break;
    best[u] = -infinity<acc_t<T>>();
    const Place o(at, d, d.out, h, h.out, w, w.out);
    const T* plane = x + unsigned(o.plane) * unsigned(d.size * h.size * w.size);
    if constexpr (K > 0) {
      const Window<K, T> of(plane, h, w, o.h, o.w, best[u]);
      const int i = o.h * h.stride - h.padding, j = o.w * w.stride - w.padding;
      place[u] = (i < 0 ? 0 : i) * w.size + (j < 0 ? 0 : j);
#pragma unroll
      for (int k = 0; k < K * K; ++k)
        if (of.v[k] > best[u] || of.v[k] != of.v[k]) best[u] = of.v[k], place[u] = of.place(k);
    } else {
      const Range rd = window(d, o.d), rh = window(h, o.h), rw = window(w, o.w);
      place[u] = (rd.first * h.size + rh.first) * w.size + rw.first;
      for (int i = rd.first; i < rd.end; i += rd.every)
        for (int j = rh.first; j < rh.end; j += rh.every)
          for (int k = rw.first; k < rw.end; k += rw.every) {
            const int here = (i * h.size + j) * w.size + k;
            const acc_t<T> v = load(plane + here);
            if (v > best[u] || v != v) best[u] = v, place[u] = here;
          }
    }
  }
#pragma unroll
  for (int u = 0; u < U; ++u) {
    const int at = blockIdx.x * (U * 256) + u * 256 + threadIdx.x;
    if (at >= size) break;
    store(values + at, best[u]);
    indices[at] = place[u];
  }
}

// y = the sum of each window over its size, or over `divisor` unless that is 0.
template <class T, int K>
__global__ void __launch_bounds__(256, K ? 4 : 2) avg_pool_forward(
    const T* __restrict__ x, T* __restrict__ y, int size, bool padded, int divisor, DIM(d), DIM(h), DIM(w)) {
  using namespace pool_;
  constexpr int U = 2;
  const Dim d = MADE(d), h = MADE(h), w = MADE(w);
  acc_t<T> sum[U];
#pragma unroll
  for (int u = 0; u < U; ++u) {
    const int at = blockIdx.x * (U * 256) + u * 256 + threadIdx.x;
    if (at >= size) break;
    sum[u] = 0;
    const Place o(at, d, d.out, h, h.out, w, w.out);
    const T* plane = x + unsigned(o.plane) * unsigned(d.size * h.size * w.size);
    if constexpr (K > 0) {
      const Window<K, T> of(plane, h, w, o.h, o.w, acc_t<T>(0));
#pragma unroll
      for (int k = 0; k < K * K; ++k) sum[u] += of.v[k];
    } else {
      const Range rd = window(d, o.d), rh = window(h, o.h), rw = window(w, o.w);
      for (int i = rd.first; i < rd.end; ++i)
        for (int j = rh.first; j < rh.end; ++j)
          for (int k = rw.first; k < rw.end; ++k) sum[u] += load(plane + (i * h.size + j) * w.size + k);
    }
    const int count = divisor ? divisor : length(d, o.d, padded) * length(h, o.h, padded) * length(w, o.w, padded);
    sum[u] /= acc_t<T>(count);
  }
#pragma unroll
  for (int u = 0; u < U; ++u) {
    const int at = blockIdx.x * (U * 256) + u * 256 + threadIdx.x;
    if (at < size) store(y + at, sum[u]);
  }
}

namespace pool_ {

// The sum of what f(window's place in its plane of outputs, o_d, o_h, o_w) gives for the windows that may hold an element.
template <class A, int M, class F>
__device__ __forceinline__ A over_windows(const Place& i, const Dim& d, const Dim& h, const Dim& w, F f) {
  A sum = 0;
  if constexpr (M > 0) {
    const int b = h.step.of(i.h + h.padding) - (M - 1), c = w.step.of(i.w + w.padding) - (M - 1);
#pragma unroll
    for (int k = 0; k < M * M; ++k) {
      const int oh = b + k / M, ow = c + k % M;
      if (unsigned(oh) < unsigned(h.out) && unsigned(ow) < unsigned(w.out)) sum += f(oh * w.out + ow, 0, oh, ow);
    }
  } else {
    const Range rd = windows(d, i.d), rh = windows(h, i.h), rw = windows(w, i.w);
    for (int a = rd.first; a < rd.end; ++a)
      for (int b = rh.first; b < rh.end; ++b)
        for (int c = rw.first; c < rw.end; ++c) sum += f((a * h.out + b) * w.out + c, a, b, c);
  }
  return sum;
}

// dx, two neighbours to a thread: f(element's place, its plane of outputs, its place in the plane). With more, the loads of
// a warp would lie so far apart that the first-level cache limits.
template <class T, class F>
__device__ __forceinline__ void pairs(T* dx, int size, const Dim& d, const Dim& h, const Dim& w, F f) {
  constexpr int N = 2;
  const int at = (blockIdx.x * 256 + threadIdx.x) * N;
  if (at >= size) return;
  Place i(at, d, d.size, h, h.size, w, w.size);
  const unsigned outputs = d.out * h.out * w.out;
  pack<T, N> v;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    if (at + j < size) v.v[j] = from_acc<T>(f(i, unsigned(i.plane) * outputs, (i.d * h.size + i.h) * w.size + i.w));
    i.next(d.size, h.size, w.size);
  }
  if (at + N <= size) {
    *reinterpret_cast<pack<T, N>*>(dx + at) = v;
  } else {
#pragma unroll
    for (int j = 0; j < N; ++j)
      if (at + j < size) dx[at + j] = v.v[j];
  }
}

}  // namespace pool_

// dx[i] = sum of g[o] over the windows o that chose i, window by window in order.
template <class T, int M>
__global__ void __launch_bounds__(256, M ? 4 : 2) max_pool_backward(
    const T* __restrict__ g, const index_t* __restrict__ indices, T* __restrict__ dx, int size, DIM(d), DIM(h), DIM(w)) {
  using namespace pool_;
  const Dim d = MADE(d), h = MADE(h), w = MADE(w);
  pairs(dx, size, d, h, w, [&](const Place& i, unsigned plane, int place) {
    return over_windows<acc_t<T>, M>(i, d, h, w, [&](int o, int, int, int) {
      const acc_t<T> v = load(g + plane + o);
      return int(indices[plane + o]) == place ? v : acc_t<T>(0);
    });
  });
}

// dx[i] = sum over the windows o that hold i of g[o] over the window's size or `divisor`, window by window in order.
template <class T, int M>
__global__ void __launch_bounds__(256, M ? 4 : 2) avg_pool_backward(
    const T* __restrict__ g, T* __restrict__ dx, int size, bool padded, int divisor, DIM(d), DIM(h), DIM(w)) {
  using namespace pool_;
  using A = acc_t<T>;
  const Dim d = MADE(d), h = MADE(h), w = MADE(w);
  const A scale = divisor ? A(1) / A(divisor) : A(1);
  pairs(dx, size, d, h, w, [&](const Place& i, unsigned plane, int) {
    return scale * over_windows<A, M>(i, d, h, w, [&](int o, int a, int b, int c) {
      if (M > 0 && (i.h + h.padding - b * h.stride >= h.kernel || i.w + w.padding - c * w.stride >= w.kernel)) return A(0);
      const A v = load(g + plane + o);
      return divisor ? v : v / A(length(d, a, padded) * length(h, b, padded) * length(w, c, padded));
    });
  });
}

// ---- channels last ---------------------------------------------------------------------------------------------------------

namespace pool_ {

// Thread t, of which `packs` take a place: the pack's first channel, and the place among those of d x h x w to a sample.
template <int VEC> struct Spot {
  int channel, channels;
  Place at;
  __device__ __forceinline__ Spot(int t, int packs, const Divisor& by, const Dim& d, int depth, const Dim& h, int height,
                                  const Dim& w, int width)
      : channels(packs * VEC), at(by.of(t), d, depth, h, height, w, width) {
    channel = (t - by.of(t) * packs) * VEC;
  }
  // Where this pack of channels begins in a sample of so many places.
  template <class T> __device__ __forceinline__ T* sample(T* p, int places) const {
    return p + unsigned(at.plane) * unsigned(places) * unsigned(channels) + channel;
  }
};

template <int VEC, class T> __device__ __forceinline__ pack<T, VEC> fetch(const T* p) {
  return *reinterpret_cast<const pack<T, VEC>*>(p);
}
template <class T, int VEC> __device__ __forceinline__ void put(T* p, const acc_t<T> (&v)[VEC]) {
  pack<T, VEC> q;
#pragma unroll
  for (int j = 0; j < VEC; ++j) q.v[j] = from_acc<T>(v[j]);
  *reinterpret_cast<pack<T, VEC>*>(p) = q;
}

}  // namespace pool_

template <class T, int VEC>
__global__ void __launch_bounds__(256, 3) max_pool_forward_last(
    const T* __restrict__ x, T* __restrict__ values, index_t* __restrict__ indices, int size, int packs, unsigned packs_m,
    int packs_s, DIM(d), DIM(h), DIM(w)) {
  using namespace pool_;
  constexpr int TWO = VEC > 1 ? 2 : 1;
  const Dim d = MADE(d), h = MADE(h), w = MADE(w);
  const int t = blockIdx.x * 256 + threadIdx.x;
  if (t >= size) return;
  const Spot<VEC> o(t, packs, {packs_m, packs_s}, d, d.out, h, h.out, w, w.out);
  const Range rd = window(d, o.at.d), rh = window(h, o.at.h), rw = window(w, o.at.w);
  const T* sample = o.sample(x, d.size * h.size * w.size);
  acc_t<T> best[VEC];
  int place[VEC];
#pragma unroll
  for (int j = 0; j < VEC; ++j) {
    best[j] = -infinity<acc_t<T>>();
    place[j] = (rd.first * h.size + rh.first) * w.size + rw.first;
  }
  for (int a = rd.first; a < rd.end; a += rd.every)
    for (int b = rh.first; b < rh.end; b += rh.every)
#pragma unroll 3
      for (int c = rw.first; c < rw.end; c += rw.every) {
        const int here = (a * h.size + b) * w.size + c;
        const pack<T, VEC> v = fetch<VEC>(sample + unsigned(here) * o.channels);
#pragma unroll
        for (int j = 0; j < VEC; ++j) {
          const acc_t<T> e = to_acc<T>(v.v[j]);
          if (e > best[j] || e != e) best[j] = e, place[j] = here;
        }
      }
  put(values + index_t(t) * VEC, best);
#pragma unroll
  for (int j = 0; j < VEC; j += TWO) {
    pack<index_t, TWO> q;
#pragma unroll
    for (int k = 0; k < TWO; ++k) q.v[k] = place[j + k];
    *reinterpret_cast<pack<index_t, TWO>*>(indices + index_t(t) * VEC + j) = q;
  }
}

template <class T, int VEC>
__global__ void __launch_bounds__(256, 4) avg_pool_forward_last(
    const T* __restrict__ x, T* __restrict__ y, int size, int packs, unsigned packs_m, int packs_s, bool padded, int divisor,
    DIM(d), DIM(h), DIM(w)) {
  using namespace pool_;
  const Dim d = MADE(d), h = MADE(h), w = MADE(w);
  const int t = blockIdx.x * 256 + threadIdx.x;
  if (t >= size) return;
  const Spot<VEC> o(t, packs, {packs_m, packs_s}, d, d.out, h, h.out, w, w.out);
  const Range rd = window(d, o.at.d), rh = window(h, o.at.h), rw = window(w, o.at.w);
  const T* sample = o.sample(x, d.size * h.size * w.size);
  acc_t<T> sum[VEC] = {};
  for (int a = rd.first; a < rd.end; ++a)
    for (int b = rh.first; b < rh.end; ++b)
#pragma unroll 3
      for (int c = rw.first; c < rw.end; ++c) {
        const pack<T, VEC> v = fetch<VEC>(sample + unsigned((a * h.size + b) * w.size + c) * o.channels);
#pragma unroll
        for (int j = 0; j < VEC; ++j) sum[j] += to_acc<T>(v.v[j]);
      }
  const int count = divisor ? divisor : length(d, o.at.d, padded) * length(h, o.at.h, padded) * length(w, o.at.w, padded);
#pragma unroll
  for (int j = 0; j < VEC; ++j) sum[j] /= acc_t<T>(count);
  put(y + index_t(t) * VEC, sum);
}

template <class T, int VEC>
__global__ void __launch_bounds__(256, 3) max_pool_backward_last(
    const T* __restrict__ g, const index_t* __restrict__ indices, T* __restrict__ dx, int size, int packs, unsigned packs_m,
    int packs_s, DIM(d), DIM(h), DIM(w)) {
  using namespace pool_;
  constexpr int TWO = VEC > 1 ? 2 : 1;
  const Dim d = MADE(d), h = MADE(h), w = MADE(w);
  const int t = blockIdx.x * 256 + threadIdx.x;
  if (t >= size) return;
  const Spot<VEC> i(t, packs, {packs_m, packs_s}, d, d.size, h, h.size, w, w.size);
  const Range rd = windows(d, i.at.d), rh = windows(h, i.at.h), rw = windows(w, i.at.w);
  const int places = d.out * h.out * w.out, place = (i.at.d * h.size + i.at.h) * w.size + i.at.w;
  g = i.sample(g, places), indices = i.sample(indices, places);
  acc_t<T> sum[VEC] = {};
  for (int a = rd.first; a < rd.end; ++a)
    for (int b = rh.first; b < rh.end; ++b)
      for (int c = rw.first; c < rw.end; ++c) {
        const unsigned at = unsigned((a * h.out + b) * w.out + c) * i.channels;
        const pack<T, VEC> v = fetch<VEC>(g + at);
#pragma unroll
        for (int j = 0; j < VEC; j += TWO) {
          const pack<index_t, TWO> chosen = fetch<TWO>(indices + at + j);
#pragma unroll
          for (int k = 0; k < TWO; ++k)
            if (int(chosen.v[k]) == place) sum[j + k] += to_acc<T>(v.v[j + k]);
        }
      }
  put(dx + index_t(t) * VEC, sum);
}

template <class T, int VEC>
__global__ void __launch_bounds__(256, 2) avg_pool_backward_last(
    const T* __restrict__ g, T* __restrict__ dx, int size, int packs, unsigned packs_m, int packs_s, bool padded, int divisor,
    DIM(d), DIM(h), DIM(w)) {
  using namespace pool_;
  const Dim d = MADE(d), h = MADE(h), w = MADE(w);
  const int t = blockIdx.x * 256 + threadIdx.x;
  if (t >= size) return;
  const Spot<VEC> i(t, packs, {packs_m, packs_s}, d, d.size, h, h.size, w, w.size);
  const Range rd = windows(d, i.at.d), rh = windows(h, i.at.h), rw = windows(w, i.at.w);
  g = i.sample(g, d.out * h.out * w.out);
  acc_t<T> sum[VEC] = {};
  for (int a = rd.first; a < rd.end; ++a)
    for (int b = rh.first; b < rh.end; ++b)
      for (int c = rw.first; c < rw.end; ++c) {
        const pack<T, VEC> v = fetch<VEC>(g + unsigned((a * h.out + b) * w.out + c) * i.channels);
        const int count = divisor ? divisor : length(d, a, padded) * length(h, b, padded) * length(w, c, padded);
        const acc_t<T> share = acc_t<T>(1) / acc_t<T>(count);
#pragma unroll
        for (int j = 0; j < VEC; ++j) sum[j] += to_acc<T>(v.v[j]) * share;
      }
  put(dx + index_t(t) * VEC, sum);
}
