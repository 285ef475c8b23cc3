// Convolutions and their gradients in one to three dims on the tensor cores, as products of matrices (see conv_mma.cuh).
//
//   conv_mma_see      forward, input gradient, transposed: w times what the taps see, channels last
//   conv_mma_planes   the same of a kernel of one tap at stride 1: w times the planes of channels as they lie in memory
//   conv_mma_weight, conv_mma_weight_planes   parts of weight gradients, which conv_mma_add adds up in order
//
// Copies move 16 bytes, so eight half numbers (or four floats) that a tap sees must be neighbours in memory. Positions are
// not, for most taps: what tap j sees starts j numbers further on. Channels are in an array that is channels last, which is
// read as it lies, and the result written so too; any other is laid out so first, (n, positions, channels filled up to
// chunks). For c channels in, k out and t taps that costs 2 * size bytes for each input against 2 k t operations: at 4.3 TB/s
// and 400 half or 200 TF32 teraflops, 186 / (k t) of the product's time: a third with 64 channels and 3 x 3 taps, a
// twenty-fifth with 512. Gathering numbers one by one would cost more: 8 times the instructions to copy. With one tap it
// would cost more than the product: planes are read as they are, channel by channel.
// Floats are rounded to TF32 when they are laid out, once; those read as they lie in registers, each time (ROUND).
#include "conv_mma.cuh"

namespace conv_mma_ {

// Along one dim: how positions of the result see the source, through the taps `tap`, tap + every, ...; and where they lie.
struct View {
  conv_::Axis axis;
  int tap, every, first, apart;
};

__device__ inline View view_of(bool reverse, int phase, int size, int taps, int out, int stride, int before, int dilation) {
  if (!reverse) return {{size, out, taps, stride, -before, dilation}, 0, 1, 0, 1};
  const conv_::Phase p = conv_::phase_of(phase, size, taps, out, stride, before, dilation);
  return {p.axis, p.tap, p.every, phase, stride};
}

// A position of a batch as digits, which count in steps worked out beforehand.
struct Position {
  int image, d, h, v;
  __device__ Position(int position, int depth, int height, int width) {
    const int row = position / width, layer = row / height;
    v = position % width;
    h = row % height;
    d = layer % depth;
    image = layer / depth;
  }
  __device__ __forceinline__ void add(const Position& s, int depth, int height, int width) {
    v += s.v;
    if (v >= width) v -= width, ++h;
    h += s.h;
    if (h >= height) h -= height, ++d;
    d += s.d;
    if (d >= depth) d -= depth, ++image;
    image += s.image;
  }
};

// Where a tap looks from where the first tap does, and where its chunks are in a row of weights.
struct alignas(16) Tap { int d, h, v, at; };

__device__ __forceinline__ bool within(int d, int h, int v, const View& vd, const View& vh, const View& vv) {
  return unsigned(d) < unsigned(vd.axis.size) && unsigned(h) < unsigned(vh.axis.size) && unsigned(v) < unsigned(vv.axis.size);
}

// ---- loaders --------------------------------------------------------------------------------------------------------
// fetch() issues a thread's copies of the next slice and goes on.

// Of four chunks in a line, which a thread copies, and the first of its lines, threads / 4 apart: eight neighbours copy one
// chunk of eight lines, which lie in different banks, and a warp all of them.
__device__ __forceinline__ int my_chunk() { return threadIdx.x / 8 % 4; }
__device__ __forceinline__ int my_line() { return threadIdx.x % 8 + threadIdx.x / 32 * 8; }

// left: rows of chunks, `pitch` numbers apart.
template <class T, class S> struct Rows {
  static constexpr int apart = S::threads / 4, each = S::m / apart;
  using slice = tile_slice<T, S::m, true>;
  const T* w;
  int rows, pitch;

  __device__ Rows(const T* start, int first, int all, int pitch) : pitch(pitch) {
    const int row = my_line();
    w = start + index_t(first + row) * pitch;
    rows = all - first - row;
  }
  // `at`: which number of a row comes next.
  __device__ __forceinline__ void fetch(T* tile, int at, bool live) const {
    T* to = tile + my_line() * slice::pitch + my_chunk() * chunk_size<T>;
#pragma unroll
    for (int i = 0; i < each; ++i)
      copy_async<16>(to + i * apart * slice::pitch, w + (index_t(i) * apart * pitch + at), live && i * apart < rows);
  }
};

// left: w by taps; right, along k: chunks of the channels that the taps of a view see, column by column. Where channels come
// in whole slices, all taps of a slice's channels come one after the other: what they see is nearly the same, so most of it
// is in the first-level cache, and the second's traffic, which would be the limit, is a third for three taps in a row.
template <class T, class S> struct See {
  static constexpr int size = chunk_size<T>, apart = S::threads / 4, each = S::n / apart;
  using slice = tile_slice<T, S::n, true>;
  Rows<T, S> left;
  const T* source[each];  // what the first tap sees, which may be outside
  int d[each], h[each], v[each];
  const Tap* taps;
  int count, chunks, pitch, tap, chunk, more_taps, more_chunks;
  bool whole;
  View vd, vh, vv;

  // `start` is the first position, `start_of` the group's channels in the first image, `images` what lies between images,
  // `pitch` between positions.
  __device__ See(const Rows<T, S>& left, const T* start_of, index_t images, int pitch, const Tap* taps, int count, int chunks,
                 int start, int total, const View& vd, const View& vh, const View& vv)
      : left(left), taps(taps), count(count), chunks(chunks), pitch(pitch), vd(vd), vh(vh), vv(vv) {
    tap = my_chunk() / chunks;
    chunk = my_chunk() % chunks;
    whole = chunks % 4 == 0;
    more_taps = 4 / chunks;
    more_chunks = 4 % chunks;
#pragma unroll
    for (int i = 0; i < each; ++i) {
      const int position = start + my_line() + i * apart;
      const Position p(position, vd.axis.positions, vh.axis.positions, vv.axis.positions);
      d[i] = p.d * vd.axis.stride + vd.axis.base;
      h[i] = p.h * vh.axis.stride + vh.axis.base;
      v[i] = position < total ? p.v * vv.axis.stride + vv.axis.base : -(1 << 30);  // none is seen from there
      const index_t at = (index_t(d[i]) * vh.axis.size + h[i]) * vv.axis.size + v[i];
      source[i] = start_of + p.image * images + at * pitch;
    }
  }
  __device__ __forceinline__ void fetch(T* l, T* r) {
    const bool live = tap < count && chunk < chunks;
    const Tap t = taps[live ? tap : 0];
    left.fetch(l, t.at + chunk * size, live);
    const int at = ((t.d * vh.axis.size + t.h) * vv.axis.size + t.v) * pitch + chunk * size;
    T* to = r + my_line() * slice::pitch + my_chunk() * size;
#pragma unroll
    for (int i = 0; i < each; ++i) {
      const bool inside = live && within(d[i] + t.d, h[i] + t.h, v[i] + t.v, vd, vh, vv);
      copy_async<16, true>(to + i * apart * slice::pitch, source[i] + at, inside);
    }
    if (whole) {
      if (++tap == count) tap = 0, chunk += 4;
    } else {
      tap += more_taps;
      chunk += more_chunks;
      if (chunk >= chunks) chunk -= chunks, ++tap;
    }
  }
};

// A chunk of a plane: at once if planes are `whole` chunks; else of half chunks, of which the second may be `next` numbers
// further on, in the next image.
template <class T>
__device__ __forceinline__ void copy_chunk(T* to, const T* from, bool live, bool whole, index_t next, bool second) {
  if (whole) {
    copy_async<16>(to, from, live);
  } else {
    copy_async<8>(to, from, live);
    copy_async<8>(to + chunk_size<T> / 2, from + next, live && second);
  }
}

// left: w; right, across k: planes of channels as they lie, chunks of positions.
template <class T, class S> struct Planes {
  static constexpr int size = chunk_size<T>, across = S::n / size, apart = S::threads / across;
  static constexpr int each = step_size<T> / apart;
  using slice = tile_slice<T, S::n, false>;
  Rows<T, S> left;
  const T* x;
  index_t next;
  int at, length, channel, channels, plane;
  bool whole, second;

  __device__ Planes(const Rows<T, S>& left, const T* start_of, index_t images, int channels, int plane, int start, int total)
      : left(left), at(my_chunk() * size), length(left.pitch), channels(channels), plane(plane) {
    const int position = start + threadIdx.x % across * size, half = size / 2;
    whole = plane % size == 0;
    second = position + half < total;
    next = position % plane + half < plane ? half : half + images - plane;
    channel = position < total ? threadIdx.x / across : channels;
    x = start_of + position / plane * images + index_t(channel) * plane + position % plane;
  }
  __device__ __forceinline__ void fetch(T* l, T* r) {
    left.fetch(l, at, at < length);
    T* to = r + threadIdx.x / across * slice::pitch + threadIdx.x % across * size;
#pragma unroll
    for (int i = 0; i < each; ++i)
      copy_chunk(to + i * apart * slice::pitch, x + index_t(i) * apart * plane, channel + i * apart < channels, whole, next,
                 second);
    at += step_size<T>;
    channel += step_size<T>;
    x += index_t(step_size<T>) * plane;
  }
};

// Both across k, which is positions: left channels of g; right channels of x that taps see; both channels last.
template <class T, class S> struct Outputs {
  static constexpr int size = chunk_size<T>, lanes = S::threads / step_size<T>;  // threads to a position
  static constexpr int each_left = S::m / size / lanes, each_right = S::n / size / lanes;
  static __device__ __forceinline__ int lane() { return lanes == 4 ? my_chunk() : threadIdx.x % lanes; }
  static __device__ __forceinline__ int line() { return lanes == 4 ? my_line() : threadIdx.x / lanes; }

  const T *g, *x;
  index_t g_images, x_images;
  int g_pitch, x_pitch, columns, g_chunks, left, position, end;
  int d[each_right], h[each_right], v[each_right], offset[each_right];
  View vd, vh, vv;
  Position at, step;

  // g, x: the group's channels in the first image; what lies between images, and between positions.
  __device__ Outputs(const T* g, const T* x, index_t g_images, index_t x_images, int g_pitch, int x_pitch, int first,
                     int start, int g_chunks, int chunks, int taps_h, int taps_v, int columns, int begin, int end,
                     const View& vd, const View& vh, const View& vv)
      : g(g), x(x), g_images(g_images), x_images(x_images), g_pitch(g_pitch), x_pitch(x_pitch),
        columns(columns - start - lane()), g_chunks(g_chunks), left(first + lane()), position(begin + line()), end(end),
        vd(vd), vh(vh), vv(vv), at(position, vd.axis.positions, vh.axis.positions, vv.axis.positions),
        step(step_size<T>, vd.axis.positions, vh.axis.positions, vv.axis.positions) {
#pragma unroll
    for (int i = 0; i < each_right; ++i) {
      const int column = start + lane() + i * lanes, tap = column / chunks;
      v[i] = tap % taps_v * vv.axis.step;
      h[i] = tap / taps_v % taps_h * vh.axis.step;
      d[i] = tap / taps_v / taps_h * vd.axis.step;
      offset[i] = ((d[i] * vh.axis.size + h[i]) * vv.axis.size + v[i]) * x_pitch + column % chunks * size;
    }
  }
  __device__ __forceinline__ void fetch(T* l, T* r) {
    const bool live = position < end;
    const int o = (at.d * vh.axis.positions + at.h) * vv.axis.positions + at.v;
    const T* from = g + (at.image * g_images + index_t(o) * g_pitch + left * size);
    T* to = l + line() * tile_slice<T, S::m, false>::pitch + lane() * size;
#pragma unroll
    for (int i = 0; i < each_left; ++i)
      copy_async<16>(to + i * lanes * size, from + i * lanes * size, live && left + i * lanes < g_chunks);
    const int zd = at.d * vd.axis.stride + vd.axis.base, zh = at.h * vh.axis.stride + vh.axis.base;
    const int zv = at.v * vv.axis.stride + vv.axis.base;
    from = x + (at.image * x_images + (index_t(zd * vh.axis.size + zh) * vv.axis.size + zv) * x_pitch);
    to = r + line() * tile_slice<T, S::n, false>::pitch + lane() * size;
#pragma unroll
    for (int i = 0; i < each_right; ++i) {
      const bool inside = live && i * lanes < columns && within(zd + d[i], zh + h[i], zv + v[i], vd, vh, vv);
      copy_async<16, true>(to + i * lanes * size, from + offset[i], inside);
    }
    position += step_size<T>;
    at.add(step, vd.axis.positions, vh.axis.positions, vv.axis.positions);
  }
};

// Both along k, which is positions: planes of g and of x as they lie.
template <class T, class S> struct OutputPlanes {
  static constexpr int apart = S::threads / 4;
  const T *g, *x;
  int rows, columns, plane, o, step, position, end;
  index_t g_images, x_images, g_next, x_next;

  // g, x: the first channel of the group in the first image.
  __device__ OutputPlanes(const T* g_start, const T* x_start, index_t g_images, index_t x_images, int first, int start,
                          int all_rows, int all_columns, int plane, int begin, int end)
      : plane(plane), end(end), g_images(g_images), x_images(x_images) {
    const int row = my_line();
    position = begin + my_chunk() * chunk_size<T>;
    o = position % plane;
    step = step_size<T> % plane;
    g_next = step_size<T> / plane * g_images;
    x_next = step_size<T> / plane * x_images;
    rows = all_rows - first - row;
    columns = all_columns - start - row;
    g = g_start + position / plane * g_images + index_t(first + row) * plane;
    x = x_start + position / plane * x_images + index_t(start + row) * plane;
  }
  template <int SIZE>
  __device__ __forceinline__ void copy(T* tile, const T* from, int rows, index_t images) const {
    using slice = tile_slice<T, SIZE, true>;
    constexpr int half = chunk_size<T> / 2;
    const index_t next = o + half < plane ? half : half + images - plane;
    T* to = tile + my_line() * slice::pitch + my_chunk() * chunk_size<T>;
#pragma unroll
    for (int i = 0; i < SIZE / apart; ++i)
      copy_chunk(to + i * apart * slice::pitch, from + o + index_t(i) * apart * plane, position < end && i * apart < rows,
                 plane % chunk_size<T> == 0, next, position + half < end);
  }
  __device__ __forceinline__ void fetch(T* l, T* r) {
    copy<S::m>(l, g, rows, g_images);
    copy<S::n>(r, x, columns, x_images);
    position += step_size<T>;
    o += step;
    g += g_next;
    x += x_next;
    if (o >= plane) o -= plane, g += g_images, x += x_images;
  }
};

}  // namespace conv_mma_

// ---- products -------------------------------------------------------------------------------------------------------
// blockIdx.x: the tile, rows first, so that blocks that read the same positions run together; blockIdx.y: the group.

#define CONV_MMA_KERNEL __global__ void __launch_bounds__(S::threads, S::blocks)

// source (n, groups, positions, chunks), w (groups, rows, taps, chunks) -> y (n, groups, rows, positions); source may be
// (n, positions, groups, chunks) and w (groups, taps, rows, chunks), which `pitch` says, the numbers between positions, and
// `w_pitch`, between rows; y is (n, positions, groups, rows) if y_last.
// blockIdx.z: the phase, if reversed. `wide`: neighbours in y are 16 bytes at a time.
template <class T, class S, bool ROUND>
CONV_MMA_KERNEL conv_mma_see(const T* __restrict__ source, const T* __restrict__ w, const T* __restrict__ b,
                             T* __restrict__ y, int batch, int rows, int chunks, int activation, int pitch,
                             int w_pitch, bool y_last, bool reverse, bool wide, DIM(d), DIM(h), DIM(v)) {
  using namespace conv_mma_;
  extern __shared__ __align__(16) unsigned char memory[];
  const View d = view_of(reverse, blockIdx.z / v_stride / h_stride, d_size, d_taps, d_out, d_stride, d_before, d_dilation);
  const View h = view_of(reverse, blockIdx.z / v_stride % h_stride, h_size, h_taps, h_out, h_stride, h_before, h_dilation);
  const View v = view_of(reverse, blockIdx.z % v_stride, v_size, v_taps, v_out, v_stride, v_before, v_dilation);
  const int tiles = int(ceil_div(rows, S::m)), first = int(blockIdx.x % tiles) * S::m, start = int(blockIdx.x / tiles) * S::n;
  const int total = batch * d.axis.positions * h.axis.positions * v.axis.positions;
  if (start >= total) return;
  const int groups = gridDim.y, group = blockIdx.y, count = d.axis.taps * h.axis.taps * v.axis.taps;
  const int length = chunks * chunk_size<T>, tap_pitch = w_pitch == length ? rows * length : length;

  Tap* taps = reinterpret_cast<Tap*>(memory + slices_size<T, S, true, true> * sizeof(T));
  for (int i = threadIdx.x; i < count; i += S::threads) {
    const int c = i % v.axis.taps, b = i / v.axis.taps % h.axis.taps, a = i / v.axis.taps / h.axis.taps;
    const int at = ((d.tap + a * d.every) * h_taps + h.tap + b * h.every) * v_taps + v.tap + c * v.every;
    taps[i] = {a * d.axis.step, b * h.axis.step, c * v.axis.step, at * tap_pitch};
  }
  __syncthreads();

  const index_t seen = index_t(d.axis.size) * h.axis.size * v.axis.size * length;
  const Rows<T, S> left(w + index_t(group) * rows * d_taps * h_taps * v_taps * length, first, rows, w_pitch);
  See<T, S> loader(left, source + group * (pitch == length ? seen : length), groups * seen, pitch, taps, count, chunks, start,
                   total, d, h, v);
  const int steps = int(ceil_div(count * chunks, 4));
  float* sums = multiply<T, S, true, true, ROUND>(loader, steps, reinterpret_cast<T*>(memory), y_last);

  const int height = reverse ? h_size : h_out, width = reverse ? v_size : v_out;
  const index_t volume = index_t(reverse ? d_size : d_out) * height * width;
  const auto place = [&](int column) -> index_t {
    if (start + column >= total) return -1;
    const Position p(start + column, d.axis.positions, h.axis.positions, v.axis.positions);
    const int row = (d.first + p.d * d.apart) * height + h.first + p.h * h.apart;
    const index_t at = index_t(row) * width + v.first + p.v * v.apart;
    return y_last ? (p.image * volume + at) * groups * rows : p.image * (groups * rows * volume) + at;
  };
  const T* bias = b ? b + group * rows + first : nullptr;
  if (y_last) return write_last<S>(sums, y + group * rows + first, bias, rows - first, activation, wide, place);
  T* to = y + (group * rows + first) * volume;
  if (wide) write<S, chunk_size<T>>(sums, to, bias, rows - first, volume, activation, place);
  else write<S, 1>(sums, to, bias, rows - first, volume, activation, place);
}

// x (n, groups, channels, plane), w (groups, rows, chunks) -> y (n, groups, rows, plane). Planes are half chunks.
template <class T, class S>
CONV_MMA_KERNEL conv_mma_planes(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ b,
                                T* __restrict__ y, int batch, int rows, int channels, int chunks, int activation, int plane) {
  using namespace conv_mma_;
  extern __shared__ __align__(16) unsigned char memory[];
  const int tiles = int(ceil_div(rows, S::m)), first = int(blockIdx.x % tiles) * S::m, start = int(blockIdx.x / tiles) * S::n;
  const int groups = gridDim.y, group = blockIdx.y, total = batch * plane, length = chunks * chunk_size<T>;
  const index_t seen = index_t(channels) * plane;
  const Rows<T, S> left(w + index_t(group) * rows * length, first, rows, length);
  Planes<T, S> loader(left, x + group * seen, groups * seen, channels, plane, start, total);
  float* sums = multiply<T, S, true, false, true>(loader, int(ceil_div(chunks, 4)), reinterpret_cast<T*>(memory));
  const auto place = [&](int column) -> index_t {
    const int p = start + column;
    return p < total ? p / plane * (index_t(groups) * rows * plane) + p % plane : -1;
  };
  T* to = y + index_t(group * rows + first) * plane;
  const T* bias = b ? b + group * rows + first : nullptr;
  if (plane % chunk_size<T> == 0) write<S, chunk_size<T>>(sums, to, bias, rows - first, plane, activation, place);
  else write<S, chunk_size<T> / 2>(sums, to, bias, rows - first, plane, activation, place);
}

// parts[part, group, k, column] = the part's sum of g (n, groups, outputs, g_chunks) times what taps see of x (n, groups,
// positions, chunks); groups may come after outputs or positions, between which are `g_pitch` and `x_pitch` numbers. A column
// is (tap, channel). blockIdx.z: the part, of `length` outputs.
template <class T, class S, bool ROUND>
CONV_MMA_KERNEL conv_mma_weight(const T* __restrict__ g, const T* __restrict__ x, float* __restrict__ parts, int length,
                                int batch, int rows, int g_chunks, int chunks, int g_pitch, int x_pitch, DIM(d), DIM(h),
                                DIM(v)) {
  using namespace conv_mma_;
  extern __shared__ __align__(16) unsigned char memory[];
  const View d{FORWARD(d), 0, 1, 0, 1}, h{FORWARD(h), 0, 1, 0, 1}, v{FORWARD(v), 0, 1, 0, 1};
  const int tiles = int(ceil_div(rows, S::m)), first = int(blockIdx.x % tiles) * S::m, start = int(blockIdx.x / tiles) * S::n;
  const int groups = gridDim.y, group = blockIdx.y, columns = d_taps * h_taps * v_taps * chunks;
  const int all = batch * d_out * h_out * v_out, begin = blockIdx.z * length;
  const int end = begin + length < all ? begin + length : all;
  const int g_length = g_chunks * chunk_size<T>, x_length = chunks * chunk_size<T>;
  const index_t gs = index_t(d_out) * h_out * v_out * g_length, xs = index_t(d_size) * h_size * v_size * x_length;
  Outputs<T, S> loader(g + group * (g_pitch == g_length ? gs : g_length), x + group * (x_pitch == x_length ? xs : x_length),
                       groups * gs, groups * xs, g_pitch, x_pitch, first / chunk_size<T>, start / chunk_size<T>, g_chunks,
                       chunks, h_taps, v_taps, columns, begin, end, d, h, v);
  const int steps = int(ceil_div(end - begin, step_size<T>));
  float* sums = multiply<T, S, false, false, ROUND>(loader, steps, reinterpret_cast<T*>(memory));
  const int pitch = columns * chunk_size<T>;
  const auto place = [&](int column) -> index_t { return start + column < pitch ? start + column : -1; };
  float* to = parts + ((index_t(blockIdx.z) * groups + group) * rows + first) * pitch;
  write<S, 4, float>(sums, to, nullptr, rows - first, pitch, 0, place);
}

// The same with one tap at stride 1: g (n, groups, rows, plane), x (n, groups, channels, plane); rows of parts are `pitch`.
template <class T, class S>
CONV_MMA_KERNEL conv_mma_weight_planes(const T* __restrict__ g, const T* __restrict__ x, float* __restrict__ parts,
                                       int length, int batch, int rows, int channels, int pitch, int plane) {
  using namespace conv_mma_;
  extern __shared__ __align__(16) unsigned char memory[];
  const int tiles = int(ceil_div(rows, S::m)), first = int(blockIdx.x % tiles) * S::m, start = int(blockIdx.x / tiles) * S::n;
  const int groups = gridDim.y, group = blockIdx.y, all = batch * plane, begin = blockIdx.z * length;
  const int end = begin + length < all ? begin + length : all;
  const index_t gs = index_t(rows) * plane, xs = index_t(channels) * plane;
  OutputPlanes<T, S> loader(g + group * gs, x + group * xs, groups * gs, groups * xs, first, start, rows, channels, plane,
                            begin, end);
  const int steps = int(ceil_div(end - begin, step_size<T>));
  float* sums = multiply<T, S, true, true, true>(loader, steps, reinterpret_cast<T*>(memory));
  const auto place = [&](int column) -> index_t { return start + column < pitch ? start + column : -1; };
  float* to = parts + ((index_t(blockIdx.z) * groups + group) * rows + first) * pitch;
  write<S, 4, float>(sums, to, nullptr, rows - first, pitch, 0, place);
}

// dw[k, c, t], or if `last` dw[k, t, c], = the sum of parts[part, k, t * pitch + c] over the parts, in order. A block does
// `some` channels of one k, whose sums it turns over in shared memory: neighbours in parts are channels, in dw taps.
template <class T>
__global__ void __launch_bounds__(256, 1) conv_mma_add(const float* __restrict__ parts, T* __restrict__ dw, int count,
                                                       index_t part, int channels, int taps, int pitch, int some, bool last) {
  extern __shared__ __align__(16) unsigned char memory[];
  float* sums = reinterpret_cast<float*>(memory);
  const int tiles = int(ceil_div(channels, some)), first = int(blockIdx.x % tiles) * some;
  const int here = channels - first < some ? channels - first : some;
  const index_t k = blockIdx.x / tiles;
  for (int i = threadIdx.x; i < here * taps; i += 256) {
    const int t = i / here, c = i % here;
    const float* from = parts + (k * taps + t) * pitch + first + c;
    float sum = 0;
    for (int p = 0; p < count; ++p) sum += from[p * part];
    if (last) store(dw + (k * taps + t) * channels + first + c, sum);
    else sums[c * taps + t] = sum;
  }
  if (last) return;
  __syncthreads();
  dw += (k * channels + first) * taps;
  for (int i = threadIdx.x; i < here * taps; i += 256) store(dw + i, sums[i]);
}

// ---- channels last --------------------------------------------------------------------------------------------------

// x (batch, channels, positions) -> out (batch, positions, chunks), with zeros for the channels that there are not, and
// floats rounded to TF32 if `round`: once here instead of each time that they are used.

namespace conv_mma_ {

template <class T, int N> __device__ __forceinline__ void put(T* out, pack<T, N> run, bool round) {
  if constexpr (sizeof(T) == 4)
    if (round)
#pragma unroll
      for (int e = 0; e < N; ++e) run.v[e] = __uint_as_float(to_tf32(run.v[e]));
  *reinterpret_cast<pack<T, N>*>(out) = run;
}

}  // namespace conv_mma_

// A block turns over 8 chunks of both: chunks change places by the position's, so that no writes or reads meet in a bank.
template <class T>
__global__ void __launch_bounds__(256, 1) conv_mma_turn(const T* __restrict__ x, T* __restrict__ out, int channels,
                                                        int chunks, int positions, bool wide, bool round) {
  constexpr int size = 16 / int(sizeof(T)), side = 8 * size;
  __shared__ alignas(16) T tile[side][side];
  const int tiles = int(ceil_div(positions, side)), start = int(blockIdx.x % tiles) * side, first = blockIdx.y * side;
  const index_t image = blockIdx.x / tiles;
  x += (image * channels + first) * positions + start;
  out += ((image * positions + start) * chunks + blockIdx.y * 8) * size;
  const auto place = [&](int p, int c) { return (c / size ^ p / size) * size + c % size; };
  if (wide) {
#pragma unroll
    for (int i = threadIdx.x; i < side * 8; i += 256) {
      const int c = i / 8, p = i % 8 * size;
      if (first + c < channels && start + p < positions) {
        const auto run = *reinterpret_cast<const pack<T, size>*>(x + index_t(c) * positions + p);
#pragma unroll
        for (int e = 0; e < size; ++e) tile[p + e][place(p + e, c)] = run.v[e];
      }
    }
  } else {
    for (int i = threadIdx.x; i < side * side; i += 256) {
      const int c = i / side, p = i % side;
      if (first + c < channels && start + p < positions) tile[p][place(p, c)] = x[index_t(c) * positions + p];
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = threadIdx.x; i < side * 8; i += 256) {
    const int p = i / 8, c = i % 8 * size;
    if (start + p >= positions || first + c >= chunks * size) continue;
    auto run = *reinterpret_cast<const pack<T, size>*>(&tile[p][place(p, c)]);
#pragma unroll
    for (int e = 0; e < size; ++e)
      if (first + c + e >= channels) run.v[e] = from_acc<T>(0);
    conv_mma_::put(out + (index_t(p) * chunks + i % 8) * size, run, round);
  }
}

// The same for few positions, the taps of weights: a thread gathers a chunk.
template <class T>
__global__ void __launch_bounds__(256, 1) conv_mma_gather(const T* __restrict__ x, T* __restrict__ out, index_t count,
                                                          int channels, int chunks, int positions, bool round) {
  constexpr int size = 16 / int(sizeof(T));
  const index_t i = grid_thread();
  if (i >= count) return;
  const int c = int(i % chunks) * size, p = int(i / chunks % positions);
  const T* from = x + (i / chunks / positions * channels + c) * positions + p;
  pack<T, size> run;
#pragma unroll
  for (int e = 0; e < size; ++e) run.v[e] = c + e < channels ? from[index_t(e) * positions] : from_acc<T>(0);
  conv_mma_::put(out + i * size, run, round);
}
