// Convolution in three dims and its two gradients as products of matrices that are never laid out, as conv.cu has them in
// two; conv.cuh makes the product. Here are the loaders, whose taps and positions have one digit more, and the kernels.
#include "conv.cuh"

namespace conv3d_ {

using namespace conv_;

// A number of four digits that counts in steps worked out beforehand.
struct Digits {
  Counter up;
  int e;
  __device__ __forceinline__ Digits(int number, int nb, int nc, int ne)
      : up(number / (ne ? ne : 1), nb, nc), e(number % (ne ? ne : 1)) {}  // no taps: nothing will be counted
  __device__ __forceinline__ void next(int nb, int nc, int ne) {
    if (++e == ne) e = 0, up.next(nb, nc);
  }
  __device__ __forceinline__ void add(const Digits& d, int nb, int nc, int ne) {
    up.add(d.up, nb, nc);
    e += d.e;
    if (e >= ne) e -= ne, up.next(nb, nc);
  }
};

// Where a position of a volume lies: image, and along each dim.
struct Place {
  index_t image;
  int d, h, w;
  __device__ __forceinline__ Place(index_t position, int depth, int height, int width) {
    const index_t row = position / width, layer = row / height;
    w = int(position % width);
    h = int(row % height);
    d = int(layer % depth);
    image = layer / depth;
  }
};

// left: w with its channels exchanged, of the taps of a phase: row c, column (k, a, i, j). A thread reads down one row.
template <class T, class S> struct Turned {
  using R = acc_t<T>;
  const T* w;
  int channels, height, width, m;
  Phase d, h, v;
  index_t apart;
  Digits at, skip;
  bool live;

  __device__ Turned(const T* start, int first, int rows, int channels, int kd, int kh, int kw, const Phase& d,
                    const Phase& h, const Phase& v)
      : channels(channels), height(kh), width(kw), d(d), h(h), v(v),
        at(threadIdx.x / S::m * S::left, d.axis.taps, h.axis.taps, v.axis.taps),
        skip(S::k - S::left, d.axis.taps, h.axis.taps, v.axis.taps) {
    m = threadIdx.x % S::m;
    live = first + m < rows;
    apart = index_t(rows) * kd * kh * kw;
    w = start + index_t(first + m) * kd * kh * kw + (d.tap * kh + h.tap) * kw + v.tap;
  }
  __device__ __forceinline__ void fetch(R (&r)[S::left]) {
#pragma unroll
    for (int e = 0; e < S::left; ++e) {
      const int tap = (at.up.b * d.every * height + at.up.c * h.every) * width + at.e * v.every;
      r[e] = live && at.up.a < channels ? load(w + at.up.a * apart + tap) : R(0);
      at.next(d.axis.taps, h.axis.taps, v.axis.taps);
    }
    at.add(skip, d.axis.taps, h.axis.taps, v.axis.taps);
  }
  __device__ __forceinline__ void put(R (*tile)[S::m + V], const R (&r)[S::left]) const {
#pragma unroll
    for (int e = 0; e < S::left; ++e) tile[threadIdx.x / S::m * S::left + e][m] = r[e];
  }
};

// right: row (c, a, i, j), column position: what the tap sees there. A thread reads down a column, a warp neighbours.
template <class T, class S> struct Seen {
  using R = acc_t<T>;
  const T* source;
  int channels, volume, t, u, v, n;
  Axis d, h, w;
  Digits at, skip;

  // `source` is the first channel of the group in the first image, `images` what lies between two images.
  __device__ Seen(const T* source, index_t images, int channels, index_t position, int batch, const Axis& d,
                  const Axis& h, const Axis& w)
      : source(source), channels(channels), volume(d.size * h.size * w.size), d(d), h(h), w(w),
        at(threadIdx.x / S::n * S::right, d.taps, h.taps, w.taps), skip(S::k - S::right, d.taps, h.taps, w.taps) {
    n = threadIdx.x % S::n;
    const Place place(position + n, d.positions, h.positions, w.positions);
    t = place.d * d.stride + d.base;
    u = place.h * h.stride + h.base;
    v = place.w * w.stride + w.base;
    if (place.image < batch) this->source += place.image * images;  // a position that is none reads image 0, for nothing
  }
  __device__ __forceinline__ void fetch(R (&r)[S::right]) {
#pragma unroll
    for (int e = 0; e < S::right; ++e) {
      const int z = t + at.up.b * d.step, y = u + at.up.c * h.step, x = v + at.e * w.step;
      const bool inside = at.up.a < channels && unsigned(z) < unsigned(d.size) && unsigned(y) < unsigned(h.size) &&
                          unsigned(x) < unsigned(w.size);
      r[e] = inside ? load(source + index_t(at.up.a) * volume + ((z * h.size + y) * w.size + x)) : R(0);
      at.next(d.taps, h.taps, w.taps);
    }
    at.add(skip, d.taps, h.taps, w.taps);
  }
  __device__ __forceinline__ void put(R (*tile)[S::n + V], const R (&r)[S::right]) const {
#pragma unroll
    for (int e = 0; e < S::right; ++e) tile[threadIdx.x / S::n * S::right + e][n] = r[e];
  }
};

// right of the weight gradient: row position (n, od, oh, ow), column (c, a, i, j). A thread reads one position.
template <class T, class S> struct Taps {
  using R = acc_t<T>;
  static constexpr int apart = S::threads / S::k;
  struct Tap { int channel, a, i, j; };  // where the tap looks: channel * volume, and places from the first tap's
  const T* x;
  const Tap* taps;  // of the tile's columns, in shared memory
  int q, m;
  index_t images, position, end;
  Axis d, h, w;
  Digits at, step;

  __device__ Taps(const T* start, index_t images, const Tap* taps, index_t begin, index_t end, const Axis& d,
                  const Axis& h, const Axis& w)
      : taps(taps), images(images), end(end), d(d), h(h), w(w), at(0, d.positions, h.positions, w.positions),
        step(S::k, d.positions, h.positions, w.positions) {
    q = threadIdx.x % S::k;
    m = threadIdx.x / S::k;
    position = begin + q;
    const Place place(position, d.positions, h.positions, w.positions);
    x = start + place.image * images;
    at.up.b = place.d;
    at.up.c = place.h;
    at.e = place.w;
  }
  __device__ __forceinline__ void fetch(R (&r)[S::right]) {
    const int t = at.up.b * d.stride + d.base, u = at.up.c * h.stride + h.base, v = at.e * w.stride + w.base;
#pragma unroll
    for (int e = 0; e < S::right; ++e) {
      const Tap tap = taps[m + e * apart];
      const int z = t + tap.a, y = u + tap.i, s = v + tap.j;
      const bool inside = position < end && unsigned(z) < unsigned(d.size) && unsigned(y) < unsigned(h.size) &&
                          unsigned(s) < unsigned(w.size);
      r[e] = inside ? load(x + at.up.a * images + tap.channel + ((z * h.size + y) * w.size + s)) : R(0);
    }
    position += S::k;
    at.add(step, d.positions, h.positions, w.positions);
  }
  __device__ __forceinline__ void put(R (*tile)[S::n + V], const R (&r)[S::right]) const {
#pragma unroll
    for (int e = 0; e < S::right; ++e) tile[q][m + e * apart] = r[e];
  }
};

}  // namespace conv3d_

// ---- kernels --------------------------------------------------------------------------------------------------------
// n images of groups * cg channels, groups * kg channels out. blockIdx.x: the tile, rows first, so that blocks that
// read the same positions run together; blockIdx.y: the group.

template <class T, class S>
__global__ void __launch_bounds__(S::threads, 1) conv3d_forward(
    const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ b, T* __restrict__ y, int n, int cg, int kg,
    DIM(d), DIM(h), DIM(v)) {
  using namespace conv3d_;
  const Axis d = FORWARD(d), h = FORWARD(h), v = FORWARD(v);
  const int groups = gridDim.y, g = blockIdx.y, tiles = int(ceil_div(kg, S::m)), first = int(blockIdx.x % tiles) * S::m;
  const index_t start = index_t(blockIdx.x / tiles) * S::n, volume = index_t(d.positions) * h.positions * v.positions;
  const int depth = cg * d.taps * h.taps * v.taps;
  __shared__ index_t place[S::n];
  for (int i = threadIdx.x; i < S::n; i += S::threads) {
    const index_t p = start + i;
    place[i] = p < n * volume ? p / volume * (groups * kg * volume) + p % volume : -1;
  }
  Rows<T, S> left(w + index_t(g) * kg * depth, first, kg, depth);
  const index_t source = index_t(cg) * d.size * h.size * v.size;
  Seen<T, S> right(x + g * source, groups * source, cg, start, n, d, h, v);
  acc_t<T> sum[S::tm][S::tn];
  multiply<S>(left, right, int(ceil_div(depth, S::k)), sum);
  write<S, T>(sum, y + index_t(g) * kg * volume, b ? b + g * kg : nullptr, first, kg, volume, place);
}

// blockIdx.z: the phase.
template <class T, class S>
__global__ void __launch_bounds__(S::threads, 1) conv3d_input(
    const T* __restrict__ g, const T* __restrict__ w, const T* __restrict__ b, T* __restrict__ dx, int n, int cg,
    int kg, DIM(d), DIM(h), DIM(v)) {
  using namespace conv3d_;
  const int phase_v = blockIdx.z % v_stride, phase_h = blockIdx.z / v_stride % h_stride;
  const int phase_d = blockIdx.z / v_stride / h_stride;
  const Phase d = phase_of(phase_d, d_size, d_taps, d_out, d_stride, d_before, d_dilation);
  const Phase h = phase_of(phase_h, h_size, h_taps, h_out, h_stride, h_before, h_dilation);
  const Phase v = phase_of(phase_v, v_size, v_taps, v_out, v_stride, v_before, v_dilation);
  const int groups = gridDim.y, group = blockIdx.y;
  const int tiles = int(ceil_div(cg, S::m)), first = int(blockIdx.x % tiles) * S::m;
  const index_t start = index_t(blockIdx.x / tiles) * S::n;
  const index_t positions = index_t(d.axis.positions) * h.axis.positions * v.axis.positions;
  if (start >= n * positions) return;
  const index_t volume = index_t(d_size) * h_size * v_size, seen = index_t(d_out) * h_out * v_out;
  __shared__ index_t place[S::n];
  for (int i = threadIdx.x; i < S::n; i += S::threads) {
    const Place p(start + i, d.axis.positions, h.axis.positions, v.axis.positions);
    const index_t z = phase_d + p.d * d_stride, y = phase_h + p.h * h_stride, x = phase_v + p.w * v_stride;
    place[i] = p.image < n ? p.image * groups * cg * volume + (z * h_size + y) * v_size + x : -1;
  }
  const index_t taps = index_t(d_taps) * h_taps * v_taps;
  Turned<T, S> left(w + group * kg * cg * taps, first, cg, kg, d_taps, h_taps, v_taps, d, h, v);
  Seen<T, S> right(g + group * kg * seen, groups * kg * seen, kg, start, n, d.axis, h.axis, v.axis);
  acc_t<T> sum[S::tm][S::tn];
  multiply<S>(left, right, int(ceil_div(kg * d.axis.taps * h.axis.taps * v.axis.taps, S::k)), sum);
  write<S, T>(sum, dx + group * cg * volume, b ? b + group * cg : nullptr, first, cg, volume, place);
}

// blockIdx.z: the part, of `length` outputs. Parts go to `parts` (part, weight), a single one straight to dw.
template <class T, class S>
__global__ void __launch_bounds__(S::threads, 1) conv3d_weight(
    const T* __restrict__ g, const T* __restrict__ x, acc_t<T>* __restrict__ parts, T* __restrict__ dw, index_t length,
    int n, int cg, int kg, DIM(d), DIM(h), DIM(v)) {
  using namespace conv3d_;
  const Axis d = FORWARD(d), h = FORWARD(h), v = FORWARD(v);
  const int groups = gridDim.y, group = blockIdx.y;
  const int tiles = int(ceil_div(kg, S::m)), first = int(blockIdx.x % tiles) * S::m;
  const int start = int(blockIdx.x / tiles) * S::n, columns = cg * d.taps * h.taps * v.taps;
  const int volume = d.positions * h.positions * v.positions;
  const index_t all = index_t(n) * volume, begin = blockIdx.z * length;
  const index_t end = begin + length < all ? begin + length : all;
  __shared__ typename Taps<T, S>::Tap taps[S::n];
  __shared__ index_t place[S::n];
  for (int i = threadIdx.x; i < S::n; i += S::threads) {
    const Digits c(start + i, d.taps, h.taps, v.taps);
    const bool live = start + i < columns;
    taps[i] = {live ? c.up.a * d.size * h.size * v.size : 0, c.up.b * d.step, c.up.c * h.step, c.e * v.step};
    place[i] = live ? start + i : -1;
  }
  __syncthreads();  // the loader reads taps at once
  const index_t outputs = index_t(kg) * volume, source = index_t(cg) * d.size * h.size * v.size;
  const index_t weights = index_t(kg) * columns;
  Gradients<T, S> left(g + group * outputs, groups * outputs, first, kg, volume, begin, end);
  Taps<T, S> right(x + group * source, groups * source, taps, begin, end, d, h, v);
  acc_t<T> sum[S::tm][S::tn];
  multiply<S>(left, right, int(ceil_div(end - begin, S::k)), sum);
  acc_t<T>* part = parts + (index_t(blockIdx.z) * groups + group) * weights;
  if (parts) write<S, acc_t<T>>(sum, part, nullptr, first, kg, columns, place);
  else write<S, T>(sum, dw + group * weights, nullptr, first, kg, columns, place);
}
