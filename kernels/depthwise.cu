// Depthwise convolution: every channel out sees one channel in. There are few multiplications for each number read, so
// nothing is gained from a matrix product: a thread sums up one result, or for the usual kernels a few of a column, and
// neighbours read neighbours.
//
// Channel k of the output sees channel k / m of the input; the kernels of the m * c channels are kh x kw each. I is the
// type that counts elements: unsigned where they fit, since division by 64-bit numbers is slow.
#include "common.cuh"

// The parameters of a kernel for one dim, since a launch passes no structs.
#define DIM(a) int a##_size, int a##_taps, int a##_out, int a##_stride, int a##_before, int a##_dilation

// How many taps one block of the weight gradient sums up; gradflow/cuda/depthwise.py knows it too.
constexpr int TAPS = 9;

// y[n, k, oh, ow] = b[k] + sum over taps of x[n, k / m, oh * stride - before + i * dilation, ...] w[k, i, j].
template <class T, class I>
__global__ void __launch_bounds__(256, 1) depthwise_forward(
    const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ b, T* __restrict__ y, index_t size,
    int channels, int m, DIM(h), DIM(v)) {
  const index_t at = grid_thread();
  if (at >= size) return;
  const I row = I(at) / I(v_out), plane = row / I(h_out);
  const int ow = int(I(at) % I(v_out)), oh = int(row % I(h_out)), k = int(plane % I(channels * m));
  const T* source = x + index_t(plane / I(channels * m) * I(channels) + I(k / m)) * h_size * v_size;
  const T* weight = w + index_t(k) * h_taps * v_taps;
  const int u = oh * h_stride - h_before, v = ow * v_stride - v_before;
  acc_t<T> sum = 0;
  for (int i = 0; i < h_taps; ++i) {
    const int iy = u + i * h_dilation;
    if (unsigned(iy) >= unsigned(h_size)) continue;
    for (int j = 0; j < v_taps; ++j) {
      const int ix = v + j * v_dilation;
      if (unsigned(ix) < unsigned(v_size)) sum += load(source + iy * v_size + ix) * load(weight + i * v_taps + j);
    }
  }
  store(y + at, sum + (b ? load(b + k) : acc_t<T>(0)));
}

// The same for K x K taps, one next to the other, at stride S in both dims: a thread makes ROWS results one below the other,
// so that a number that it reads serves up to K of them and weights stay in registers. For 3 x 3 that is 7 reads for each
// result instead of 18: with 4.3 TB/s that many reads would take twice the time of the bytes. Reads of neighbouring threads
// are neighbours. Reversed, for the input gradient at stride 1, taps are in the opposite order.
template <class T, int K, int S>
__global__ void __launch_bounds__(256, K == 7 ? 1 : 2) depthwise_column(
    const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ b, T* __restrict__ y, int size, int channels,
    int m, bool reverse, int h_size, int v_size, int h_out, int v_out, int h_before, int v_before) {
  constexpr int ROWS = 4;
  const unsigned at = grid_thread();
  if (at >= size) return;
  const unsigned down = (h_out + ROWS - 1) / ROWS, rest = at / v_out, plane = rest / down;
  const int ow = at % v_out, oh = rest % down * ROWS, k = plane % (channels * m);
  float weight[K][K], sum[ROWS];
#pragma unroll
  for (int i = 0; i < K; ++i)
#pragma unroll
    for (int j = 0; j < K; ++j) weight[i][j] = load(w + k * K * K + (reverse ? (K - 1 - i) * K + K - 1 - j : i * K + j));
#pragma unroll
  for (int o = 0; o < ROWS; ++o) sum[o] = 0;
  const int u = oh * S - h_before, v = ow * S - v_before;
  const T* source = x + index_t(plane / (channels * m) * channels + k / m) * h_size * v_size + v;
#pragma unroll
  for (int r = 0; r < (ROWS - 1) * S + K; ++r) {
    const bool inside = unsigned(u + r) < unsigned(h_size);
#pragma unroll
    for (int j = 0; j < K; ++j) {
      const float value = inside && unsigned(v + j) < unsigned(v_size) ? load(source + (u + r) * v_size + j) : 0.f;
#pragma unroll
      for (int o = 0; o < ROWS; ++o)
        if (r - o * S >= 0 && r - o * S < K) sum[o] += value * weight[(r - o * S) % K][j];
    }
  }
  const float add = b ? load(b + k) : 0.f;
  y += (index_t(plane) * h_out + oh) * v_out + ow;
#pragma unroll
  for (int o = 0; o < ROWS; ++o)
    if (oh + o < h_out) store(y + o * v_out, sum[o] + add);
}

// dx[n, c, ih, iw] = b[c] + sum over the m channels k out and the taps that see it of g[n, k, oh, ow] w[k, i, j].
template <class T, class I>
__global__ void __launch_bounds__(256, 1) depthwise_input(
    const T* __restrict__ g, const T* __restrict__ w, const T* __restrict__ b, T* __restrict__ dx, index_t size,
    int channels, int m, DIM(h), DIM(v)) {
  const index_t at = grid_thread();
  if (at >= size) return;
  const I row = I(at) / I(v_size), plane = row / I(h_size);
  const int iw = int(I(at) % I(v_size)), ih = int(row % I(h_size)), c = int(plane % I(channels));
  const T* source = g + index_t(plane) * m * h_out * v_out;
  const T* weight = w + index_t(c) * m * h_taps * v_taps;
  // Without dilation every h_stride-th tap sees the input; with it, all are tried.
  const int h_every = h_dilation == 1 ? h_stride : 1, h_first = h_every > 1 ? max(ih + h_before, 0) % h_every : 0;
  const int v_every = v_dilation == 1 ? v_stride : 1, v_first = v_every > 1 ? max(iw + v_before, 0) % v_every : 0;
  acc_t<T> sum = 0;
  for (int k = 0; k < m; ++k, source += h_out * v_out, weight += h_taps * v_taps)
    for (int i = h_first; i < h_taps; i += h_every) {
      const int y = ih + h_before - i * h_dilation, oh = y / h_stride;
      if (y < 0 || oh >= h_out || oh * h_stride != y) continue;
      for (int j = v_first; j < v_taps; j += v_every) {
        const int x = iw + v_before - j * v_dilation, ow = x / v_stride;
        if (x >= 0 && ow < v_out && ow * v_stride == x)
          sum += load(source + oh * v_out + ow) * load(weight + i * v_taps + j);
      }
    }
  store(dx + at, sum + (b ? load(b + c) : acc_t<T>(0)));
}

// parts[part, k, tap] = sum over the part's outputs of g[n, k, oh, ow] x[n, k / m, what the tap sees].
// blockIdx.x: channel k and TAPS of its taps; blockIdx.y: the part, of `length` of the outputs of all n images.
template <class T, class I>
__global__ void __launch_bounds__(256, 1) depthwise_weight(
    const T* __restrict__ g, const T* __restrict__ x, acc_t<T>* __restrict__ parts, index_t length, int n, int channels,
    int m, DIM(h), DIM(v)) {
  const int taps = h_taps * v_taps, chunks = int(ceil_div(taps, TAPS));
  const int k = blockIdx.x / chunks, first = blockIdx.x % chunks * TAPS, plane = h_out * v_out;
  acc_t<T> sum[TAPS];
  int row[TAPS], column[TAPS];
#pragma unroll
  for (int t = 0; t < TAPS; ++t) {
    sum[t] = 0;
    row[t] = (first + t) / v_taps * h_dilation - h_before;
    column[t] = (first + t) % v_taps * v_dilation - v_before;
  }
  const index_t all = index_t(n) * plane, begin = blockIdx.y * length;
  const index_t end = begin + length < all ? begin + length : all;
  for (index_t at = begin + threadIdx.x; at < end; at += blockDim.x) {
    const I image = I(at) / I(plane);
    const int o = int(I(at) % I(plane)), u = o / v_out * h_stride, v = o % v_out * v_stride;
    const acc_t<T> gradient = load(g + (index_t(image) * channels * m + k) * plane + o);
    const T* source = x + (index_t(image) * channels + k / m) * h_size * v_size;
#pragma unroll
    for (int t = 0; t < TAPS; ++t) {
      const int y = u + row[t], z = v + column[t];
      const bool inside = unsigned(y) < unsigned(h_size) && unsigned(z) < unsigned(v_size);
      if (inside) sum[t] += gradient * load(source + y * v_size + z);
    }
  }
#pragma unroll
  for (int t = 0; t < TAPS; ++t) {
    const acc_t<T> whole = block_sum(sum[t]);
    if (threadIdx.x == 0 && first + t < taps)
      parts[(index_t(blockIdx.y) * channels * m + k) * taps + first + t] = whole;
  }
}

// dw[i] = the sum of parts[part][i] over the parts, in order.
template <class T>
__global__ void __launch_bounds__(256, 1) depthwise_add_parts(
    const acc_t<T>* __restrict__ parts, T* __restrict__ dw, index_t size, int count) {
  const index_t i = grid_thread();
  if (i >= size) return;
  acc_t<T> sum = 0;
  for (int p = 0; p < count; ++p) sum += parts[p * size + i];
  store(dw + i, sum);
}

// ---- channels last ----------------------------------------------------------------------------------------------------
// One channel in for one out, x (n, h, v, channels), in whole chunks of 16 bytes: a thread has a chunk of channels, LANES
// neighbours a line of 128 bytes.

constexpr int LANES = 8, LINES = 32, ACROSS = 4;  // threads of a block; results of one; gradflow/cuda/depthwise.py knows them

// Which place of the source a tap sees from a position of the result, -1 for none. Reversed, for input gradients: which
// output saw that position through the tap.
__device__ __forceinline__ int place_of(bool reverse, int position, int tap, int size, int stride, int before, int dilation) {
  int at = reverse ? position + before - tap * dilation : position * stride - before + tap * dilation;
  if (reverse && stride > 1) {
    if (at < 0 || at % stride) return -1;
    at /= stride;
  }
  return unsigned(at) < unsigned(size) ? at : -1;
}

// A thread makes ACROSS results side by side, which share the weights that it reads from shared memory, where the block has
// turned them over: neighbours there are channels. The taps' numbers come from the first-level cache: with weights that is
// 180 bytes for 32 of device memory, about what a multiprocessor reads there in the time.
template <class T>
__global__ void __launch_bounds__(LANES * LINES, 2) depthwise_last(
    const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ b, T* __restrict__ y, index_t count,
    int channels, bool reverse, DIM(h), DIM(v)) {
  constexpr int V = pack_size<T>, wide = LANES * V, pitch = wide + V;  // so that neighbours of w go to different banks
  using chunk = pack<T, V>;
  extern __shared__ __align__(16) unsigned char memory[];
  T* weights = reinterpret_cast<T*>(memory);
  const int first = blockIdx.y * wide, taps = h_taps * v_taps;
  for (int i = threadIdx.y * LANES + threadIdx.x; i < taps * wide; i += LANES * LINES) {
    const int c = i / taps, t = i % taps;
    weights[t * pitch + c] = first + c < channels ? w[(first + c) * taps + t] : from_acc<T>(0);
  }
  __syncthreads();
  const index_t at = index_t(blockIdx.x) * LINES + threadIdx.y;
  const int c = first + threadIdx.x * V;
  if (at >= count || c >= channels) return;
  const int rows = reverse ? h_out : h_size, columns = reverse ? v_out : v_size;  // of the source
  const int height = reverse ? h_size : h_out, width = reverse ? v_size : v_out;
  const int runs = (width + ACROSS - 1) / ACROSS;
  const index_t row = at / runs, image = row / height;
  const int here = int(row % height), start = int(at % runs) * ACROSS;
  acc_t<T> sum[ACROSS][V];
#pragma unroll
  for (int e = 0; e < V; ++e) {
    const acc_t<T> add = b ? load(b + c + e) : acc_t<T>(0);
#pragma unroll
    for (int o = 0; o < ACROSS; ++o) sum[o][e] = add;
  }
  for (int i = 0; i < h_taps; ++i) {
    const int u = place_of(reverse, here, i, rows, h_stride, h_before, h_dilation);
    if (u < 0) continue;
    const T* line = x + (image * rows + u) * columns * channels + c;
    for (int j = 0; j < v_taps; ++j) {
      const chunk k = *reinterpret_cast<const chunk*>(weights + (i * v_taps + j) * pitch + threadIdx.x * V);
#pragma unroll
      for (int o = 0; o < ACROSS; ++o) {
        const int z = place_of(reverse, start + o, j, columns, v_stride, v_before, v_dilation);
        if (z < 0) continue;
        const chunk seen = *reinterpret_cast<const chunk*>(line + index_t(z) * channels);
#pragma unroll
        for (int e = 0; e < V; ++e) sum[o][e] += to_acc(seen.v[e]) * to_acc(k.v[e]);
      }
    }
  }
  y += ((image * height + here) * width + start) * channels + c;
#pragma unroll
  for (int o = 0; o < ACROSS; ++o) {
    if (start + o >= width) break;
    chunk out;
#pragma unroll
    for (int e = 0; e < V; ++e) out.v[e] = from_acc<T>(sum[o][e]);
    *reinterpret_cast<chunk*>(y + index_t(o) * channels) = out;
  }
}

// parts[part, c, tap] as depthwise_weight has them. blockIdx.x: LANES chunks of channels and TAPS of their taps.
template <class T>
__global__ void __launch_bounds__(LANES * LINES, 1) depthwise_weight_last(
    const T* __restrict__ g, const T* __restrict__ x, acc_t<T>* __restrict__ parts, index_t length, int n, int channels,
    DIM(h), DIM(v)) {
  constexpr int V = pack_size<T>, wide = LANES * V;
  using chunk = pack<T, V>;
  __shared__ acc_t<T> lines[LINES][wide];
  const int taps = h_taps * v_taps, passes = int(ceil_div(taps, TAPS)), first = blockIdx.x % passes * TAPS;
  const int base = blockIdx.x / passes * wide, c = base + threadIdx.x * V;
  acc_t<T> sum[TAPS][V] = {};
  int row[TAPS], column[TAPS];
#pragma unroll
  for (int t = 0; t < TAPS; ++t) {
    row[t] = first + t < taps ? (first + t) / v_taps * h_dilation - h_before : -(1 << 30);  // sees nothing
    column[t] = (first + t) % v_taps * v_dilation - v_before;
  }
  const index_t all = index_t(n) * h_out * v_out, begin = blockIdx.y * length;
  const index_t end = begin + length < all ? begin + length : all;
  // Positions are digits, which count in steps of LINES.
  int ow = int((begin + threadIdx.y) % v_out), oh = int((begin + threadIdx.y) / v_out % h_out);
  index_t image = (begin + threadIdx.y) / v_out / h_out;
  for (index_t at = begin + threadIdx.y; at < end && c < channels; at += LINES) {
    const chunk gradient = *reinterpret_cast<const chunk*>(g + at * channels + c);
    const T* source = x + image * h_size * v_size * channels + c;
#pragma unroll
    for (int t = 0; t < TAPS; ++t) {
      const int u = oh * h_stride + row[t], z = ow * v_stride + column[t];
      if (unsigned(u) < unsigned(h_size) && unsigned(z) < unsigned(v_size)) {
        const chunk seen = *reinterpret_cast<const chunk*>(source + (index_t(u) * v_size + z) * channels);
#pragma unroll
        for (int e = 0; e < V; ++e) sum[t][e] += to_acc(gradient.v[e]) * to_acc(seen.v[e]);
      }
    }
    ow += LINES % v_out;
    if (ow >= v_out) ow -= v_out, ++oh;
    oh += LINES / v_out % h_out;
    if (oh >= h_out) oh -= h_out, ++image;
    image += LINES / v_out / h_out;
  }
#pragma unroll
  for (int t = 0; t < TAPS; ++t) {
    __syncthreads();
#pragma unroll
    for (int e = 0; e < V; ++e) lines[threadIdx.y][threadIdx.x * V + e] = sum[t][e];
    __syncthreads();
    const int mine = threadIdx.y * LANES + threadIdx.x;
    if (mine < wide && base + mine < channels && first + t < taps) {
      acc_t<T> whole = 0;
      for (int l = 0; l < LINES; ++l) whole += lines[l][mine];
      parts[(index_t(blockIdx.y) * channels + base + mine) * taps + first + t] = whole;
    }
  }
}
