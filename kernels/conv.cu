// Convolution and its two gradients as products of matrices that are never laid out: left (m x k) times right (k x n).
//
//   forward           left = w (channels out x channels in and taps)      right = what the taps see (x outputs)
//   input gradient    left = w (channels in x channels out and taps)      right = what the taps see of g (x inputs)
//   weight gradient   left = g (channels out x outputs)                   right = what the taps see (outputs x taps)
//
// In one and two dims; conv3d.cu has three. conv.cuh makes the product: its loaders, which know the convolution, are here.
// With a stride of s only every s-th tap sees a given input: the input gradient's blocks each do the inputs of one of s * s
// phases, over the taps of that phase alone. The weight gradient's sums, over all outputs, are long: they are split among
// blocks into parts, which a second kernel adds up in order.
#include "conv.cuh"

namespace conv_ {

// left: w with its channels exchanged, of the taps of a phase: row c, column (k, i, j). A thread reads down one row.
template <class T, class S> struct Turned {
  using R = acc_t<T>;
  const T* w;
  int channels, plane, width, ni, nj, every_i, every_j, m;
  index_t apart;
  Counter at, skip;
  bool live;

  __device__ Turned(const T* start, int first, int rows, int channels, int kh, int kw, const Phase& h, const Phase& v)
      : channels(channels), plane(kh * kw), width(kw), ni(h.axis.taps), nj(v.axis.taps), every_i(h.every),
        every_j(v.every), at(threadIdx.x / S::m * S::left, ni, nj), skip(S::k - S::left, ni, nj) {
    m = threadIdx.x % S::m;
    live = first + m < rows;
    apart = index_t(rows) * plane;
    w = start + index_t(first + m) * plane + h.tap * kw + v.tap;
  }
  __device__ __forceinline__ void fetch(R (&r)[S::left]) {
#pragma unroll
    for (int e = 0; e < S::left; ++e) {
      r[e] = live && at.a < channels ? load(w + at.a * apart + at.b * every_i * width + at.c * every_j) : R(0);
      at.next(ni, nj);
    }
    at.add(skip, ni, nj);
  }
  __device__ __forceinline__ void put(R (*tile)[S::m + V], const R (&r)[S::left]) const {
#pragma unroll
    for (int e = 0; e < S::left; ++e) tile[threadIdx.x / S::m * S::left + e][m] = r[e];
  }
};

// right: row (c, i, j), column position: what the tap sees there. A thread reads down a column, a warp neighbours.
template <class T, class S> struct Seen {
  using R = acc_t<T>;
  const T* source;
  int channels, plane, u, v, n;
  Axis h, w;
  Counter at, skip;

  // `source` is the first channel of the group in the first image, `images` what lies between two images.
  __device__ Seen(const T* source, index_t images, int channels, index_t position, int batch, const Axis& h,
                  const Axis& w)
      : source(source), channels(channels), plane(h.size * w.size), h(h), w(w),
        at(threadIdx.x / S::n * S::right, h.taps, w.taps), skip(S::k - S::right, h.taps, w.taps) {
    n = threadIdx.x % S::n;
    position += n;
    const index_t row = position / w.positions, image = row / h.positions;
    u = int(row % h.positions) * h.stride + h.base;
    v = int(position % w.positions) * w.stride + w.base;
    if (image < batch) this->source += image * images;  // a position that is none reads image 0, for nothing
  }
  __device__ __forceinline__ void fetch(R (&r)[S::right]) {
#pragma unroll
    for (int e = 0; e < S::right; ++e) {
      const int y = u + at.b * h.step, x = v + at.c * w.step;
      const bool inside = at.a < channels && unsigned(y) < unsigned(h.size) && unsigned(x) < unsigned(w.size);
      r[e] = inside ? load(source + index_t(at.a) * plane + (y * w.size + x)) : R(0);
      at.next(h.taps, w.taps);
    }
    at.add(skip, h.taps, w.taps);
  }
  __device__ __forceinline__ void put(R (*tile)[S::n + V], const R (&r)[S::right]) const {
#pragma unroll
    for (int e = 0; e < S::right; ++e) tile[threadIdx.x / S::n * S::right + e][n] = r[e];
  }
};

// right of the weight gradient: row position (n, oh, ow), column (c, i, j). A thread reads one position, several taps.
template <class T, class S> struct Taps {
  using R = acc_t<T>;
  static constexpr int apart = S::threads / S::k;
  struct Tap { int channel, i, j; };  // where the tap looks: channel * plane, and rows and columns from the first tap's
  const T* x;
  const Tap* taps;  // of the tile's columns, in shared memory
  int q, m;
  index_t images, position, end;
  Axis h, w;
  Counter at, step;

  __device__ Taps(const T* start, index_t images, const Tap* taps, index_t begin, index_t end, const Axis& h,
                  const Axis& w)
      : taps(taps), images(images), end(end), h(h), w(w), at(0, h.positions, w.positions),
        step(S::k, h.positions, w.positions) {
    q = threadIdx.x % S::k;
    m = threadIdx.x / S::k;
    position = begin + q;
    const index_t row = position / w.positions;
    x = start + row / h.positions * images;
    at.b = int(row % h.positions);
    at.c = int(position % w.positions);
  }
  __device__ __forceinline__ void fetch(R (&r)[S::right]) {
    const int u = at.b * h.stride + h.base, v = at.c * w.stride + w.base;
#pragma unroll
    for (int e = 0; e < S::right; ++e) {
      const Tap t = taps[m + e * apart];
      const int y = u + t.i, z = v + t.j;
      const bool inside = position < end && unsigned(y) < unsigned(h.size) && unsigned(z) < unsigned(w.size);
      r[e] = inside ? load(x + at.a * images + t.channel + (y * w.size + z)) : R(0);
    }
    position += S::k;
    at.add(step, h.positions, w.positions);
  }
  __device__ __forceinline__ void put(R (*tile)[S::n + V], const R (&r)[S::right]) const {
#pragma unroll
    for (int e = 0; e < S::right; ++e) tile[q][m + e * apart] = r[e];
  }
};

}  // namespace conv_

// ---- kernels --------------------------------------------------------------------------------------------------------
// n images of groups * cg channels, groups * kg channels out. blockIdx.x: the tile, rows first, so that blocks that
// read the same positions run together; blockIdx.y: the group.

template <class T, class S>
__global__ void __launch_bounds__(S::threads, S::blocks) conv_forward(
    const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ b, T* __restrict__ y, int n, int cg, int kg,
    DIM(h), DIM(v)) {
  using namespace conv_;
  const Axis h = FORWARD(h), v = FORWARD(v);
  const int groups = gridDim.y, g = blockIdx.y, tiles = int(ceil_div(kg, S::m)), first = int(blockIdx.x % tiles) * S::m;
  const index_t start = index_t(blockIdx.x / tiles) * S::n, plane = index_t(h.positions) * v.positions;
  const int depth = cg * h.taps * v.taps;
  __shared__ index_t place[S::n];
  for (int i = threadIdx.x; i < S::n; i += S::threads) {
    const index_t p = start + i;
    place[i] = p < n * plane ? p / plane * (groups * kg * plane) + p % plane : -1;
  }
  Rows<T, S> left(w + index_t(g) * kg * depth, first, kg, depth);
  const index_t source = index_t(cg) * h.size * v.size;
  Seen<T, S> right(x + g * source, groups * source, cg, start, n, h, v);
  acc_t<T> sum[S::tm][S::tn];
  multiply<S>(left, right, int(ceil_div(depth, S::k)), sum);
  write<S, T>(sum, y + index_t(g) * kg * plane, b ? b + g * kg : nullptr, first, kg, plane, place);
}

// blockIdx.z: the phase.
template <class T, class S>
__global__ void __launch_bounds__(S::threads, S::blocks) conv_input(
    const T* __restrict__ g, const T* __restrict__ w, const T* __restrict__ b, T* __restrict__ dx, int n, int cg,
    int kg, DIM(h), DIM(v)) {
  using namespace conv_;
  const int phase_h = blockIdx.z / v_stride, phase_v = blockIdx.z % v_stride;
  const Phase h = phase_of(phase_h, h_size, h_taps, h_out, h_stride, h_before, h_dilation);
  const Phase v = phase_of(phase_v, v_size, v_taps, v_out, v_stride, v_before, v_dilation);
  const int groups = gridDim.y, group = blockIdx.y;
  const int tiles = int(ceil_div(cg, S::m)), first = int(blockIdx.x % tiles) * S::m;
  const index_t start = index_t(blockIdx.x / tiles) * S::n, positions = index_t(h.axis.positions) * v.axis.positions;
  if (start >= n * positions) return;
  const index_t plane = index_t(h_size) * v_size, seen = index_t(h_out) * v_out;
  __shared__ index_t place[S::n];
  for (int i = threadIdx.x; i < S::n; i += S::threads) {
    const index_t p = start + i, image = p / positions, rest = p % positions;
    const index_t y = phase_h + rest / v.axis.positions * h_stride, z = phase_v + rest % v.axis.positions * v_stride;
    place[i] = image < n ? image * groups * cg * plane + y * v_size + z : -1;
  }
  Turned<T, S> left(w + index_t(group) * kg * cg * h_taps * v_taps, first, cg, kg, h_taps, v_taps, h, v);
  Seen<T, S> right(g + group * kg * seen, groups * kg * seen, kg, start, n, h.axis, v.axis);
  acc_t<T> sum[S::tm][S::tn];
  multiply<S>(left, right, int(ceil_div(kg * h.axis.taps * v.axis.taps, S::k)), sum);
  write<S, T>(sum, dx + group * cg * plane, b ? b + group * cg : nullptr, first, cg, plane, place);
}

// blockIdx.z: the part, of `length` outputs. Parts go to `parts` (part, weight), a single one straight to dw.
template <class T, class S>
__global__ void __launch_bounds__(S::threads, S::blocks) conv_weight(
    const T* __restrict__ g, const T* __restrict__ x, acc_t<T>* __restrict__ parts, T* __restrict__ dw, index_t length,
    int n, int cg, int kg, DIM(h), DIM(v)) {
  using namespace conv_;
  const Axis h = FORWARD(h), v = FORWARD(v);
  const int groups = gridDim.y, group = blockIdx.y;
  const int tiles = int(ceil_div(kg, S::m)), first = int(blockIdx.x % tiles) * S::m;
  const int start = int(blockIdx.x / tiles) * S::n, columns = cg * h.taps * v.taps, plane = h.positions * v.positions;
  const index_t all = index_t(n) * plane, begin = blockIdx.z * length;
  const index_t end = begin + length < all ? begin + length : all;
  __shared__ typename Taps<T, S>::Tap taps[S::n];
  __shared__ index_t place[S::n];
  for (int i = threadIdx.x; i < S::n; i += S::threads) {
    const Counter c(start + i, h.taps, v.taps);
    const bool live = start + i < columns;
    taps[i] = {live ? c.a * h.size * v.size : 0, c.b * h.step, c.c * v.step};  // a column that is none reads, too
    place[i] = live ? start + i : -1;
  }
  __syncthreads();  // the loader reads taps at once
  const index_t outputs = index_t(kg) * plane, source = index_t(cg) * h.size * v.size, weights = index_t(kg) * columns;
  Gradients<T, S> left(g + group * outputs, groups * outputs, first, kg, plane, begin, end);
  Taps<T, S> right(x + group * source, groups * source, taps, begin, end, h, v);
  acc_t<T> sum[S::tm][S::tn];
  multiply<S>(left, right, int(ceil_div(end - begin, S::k)), sum);
  acc_t<T>* part = parts + (index_t(blockIdx.z) * groups + group) * weights;
  if (parts) write<S, acc_t<T>>(sum, part, nullptr, first, kg, columns, place);
  else write<S, T>(sum, dw + group * weights, nullptr, first, kg, columns, place);
}

// dw[i] = the sum of parts[part][i] over the parts, in order.
template <class T>
__global__ void __launch_bounds__(256, 1) conv_add_parts(
    const acc_t<T>* __restrict__ parts, T* __restrict__ dw, index_t size, int count) {
  const index_t i = grid_thread();
  if (i >= size) return;
  acc_t<T> sum = 0;
  for (int p = 0; p < count; ++p) sum += parts[p * size + i];
  store(dw + i, sum);
}
