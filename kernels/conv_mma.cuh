// A convolution's product of matrices, left (m x k) times right (k x n), by a pipeline: asynchronous copies fill slices of
// 64 bytes of k in shared memory, three slices ahead of the tensor cores (mma_tile.cuh), or of the ordinary units where
// floats are to be true floats. A loader, which knows the convolution, issues the copies: 16 bytes each, zeros where there
// is nothing. Sums run over k in order whatever the tile's size, so every tile gives the same bits.
#pragma once
#include "activation.cuh"
#include "conv.cuh"
#include "mma_tile.cuh"

namespace conv_mma_ {

// WM x WN warps make M x N numbers, BLOCKS times on a multiprocessor; on tensor cores or by ordinary units.
template <int M, int N, int WM, int WN, int BLOCKS, bool TENSOR> struct Tile {
  static constexpr int m = M, n = N, warps_m = WM, warps_n = WN, threads = 32 * WM * WN, blocks = BLOCKS;
  static constexpr bool tensor = TENSOR;
};

constexpr int STAGES = 4;  // slices in flight and in use; gradflow/cuda/conv_mma.py knows it too

template <class T> constexpr int chunk_size = 16 / int(sizeof(T));  // numbers that one copy moves
template <class T> constexpr int step_size = tile_depth<T>;         // of k in a slice

// A thread's sums by ordinary units: 16 x 16 threads, 4 x 8 of them in a warp, take up four numbers of k at once.
template <class S, bool A_RUNS_K, bool B_RUNS_K> struct Plain {
  static constexpr int rows = S::m / 16, columns = S::n / 16;  // of a thread
  using a_slice = tile_slice<float, S::m, A_RUNS_K>;
  using b_slice = tile_slice<float, S::n, B_RUNS_K>;
  static_assert(S::threads == 256, "16 x 16 threads");

  static constexpr int out_pitch = S::n + 8, turned_pitch = S::m + 4;  // as mma_tile has them

  float sum[rows][columns] = {};

  static __device__ __forceinline__ int down() { return threadIdx.x % 32 / 8 + threadIdx.x / 64 * 4; }
  static __device__ __forceinline__ int across() { return threadIdx.x % 8 + threadIdx.x / 32 % 2 * 8; }

  // The i-th of the `per` rows or columns of thread t: 16 apart where lines run along k, else in fours 64 apart.
  template <bool RUNS_K> static __device__ __forceinline__ int place(int t, int i) {
    return RUNS_K ? t + 16 * i : t * 4 + i / 4 * 64 + i % 4;
  }
  template <class Slice, bool RUNS_K, int per>
  static __device__ __forceinline__ void four(float (&r)[per][4], const float* slice, int t, int k) {
#pragma unroll
    for (int i = 0; i < per; i += RUNS_K ? 1 : 4)
#pragma unroll
      for (int e = 0; e < (RUNS_K ? 1 : 4); ++e) {
        const float* from = RUNS_K ? slice + place<RUNS_K>(t, i) * Slice::pitch + k
                                   : slice + (k + e) * Slice::pitch + place<RUNS_K>(t, i);
        const pack<float, 4> p = *reinterpret_cast<const pack<float, 4>*>(from);
#pragma unroll
        for (int f = 0; f < 4; ++f) r[RUNS_K ? i : i + f][RUNS_K ? f : e] = p.v[f];
      }
  }

  __device__ __forceinline__ void multiply(const float* sa, const float* sb) {
#pragma unroll 1
    for (int k = 0; k < tile_depth<float>; k += 4) {
      float l[rows][4], r[columns][4];
      four<a_slice, A_RUNS_K>(l, sa, down(), k);
      four<b_slice, B_RUNS_K>(r, sb, across(), k);
#pragma unroll
      for (int e = 0; e < 4; ++e)
#pragma unroll
        for (int i = 0; i < rows; ++i)
#pragma unroll
          for (int j = 0; j < columns; ++j) sum[i][j] += l[i][e] * r[j][e];
    }
  }
  __device__ __forceinline__ void spread(float* to) const {
#pragma unroll
    for (int i = 0; i < rows; ++i)
#pragma unroll
      for (int j = 0; j < columns; ++j)
        to[place<A_RUNS_K>(down(), i) * out_pitch + place<B_RUNS_K>(across(), j)] = sum[i][j];
  }
  __device__ __forceinline__ void spread_turned(float* to) const {
#pragma unroll
    for (int i = 0; i < rows; ++i)
#pragma unroll
      for (int j = 0; j < columns; ++j)
        to[place<B_RUNS_K>(across(), j) * turned_pitch + place<A_RUNS_K>(down(), i)] = sum[i][j];
  }
};

template <bool TENSOR, class T, class S, bool A, bool B, bool ROUND> struct units {
  using type = mma_tile<T, S::m, S::n, S::m / S::warps_m, S::n / S::warps_n, A, B, ROUND>;
};
template <class T, class S, bool A, bool B, bool ROUND> struct units<false, T, S, A, B, ROUND> {
  using type = Plain<S, A, B>;
};

// How many numbers of type T the slices take: the sums, which come after them, need no more.
template <class T, class S, bool A, bool B> constexpr int slices_size =
    STAGES * (tile_slice<T, S::m, A>::size + tile_slice<T, S::n, B>::size);

// The sums of `steps` slices of a loader, left in `memory` as rows of S::n + 8 floats, or if `turned` as columns of S::m + 4.
// A, B: whether slices of left, right run along k; ROUND: floats are to be rounded to TF32, if that is asked for, since they
// come as they were.
template <class T, class S, bool A, bool B, bool ROUND, class Loader>
__device__ __forceinline__ float* multiply(Loader& loader, int steps, T* memory, bool turned = false) {
  using Units = typename units<S::tensor, T, S, A, B, ROUND>::type;
  constexpr int right = Units::a_slice::size, stage = right + Units::b_slice::size;
  static_assert(S::m * Units::out_pitch * sizeof(float) <= STAGES * stage * sizeof(T), "sums fit where slices were");
  static_assert(S::n * Units::turned_pitch <= S::m * Units::out_pitch, "turned, too");
  Units sums;
  pipelined<STAGES>(
      steps, [&](int s) { loader.fetch(memory + s * stage, memory + s * stage + right); },
      [&](int s) { sums.multiply(memory + s * stage, memory + s * stage + right); });
  copy_wait<0>();
  __syncthreads();
  float* out = reinterpret_cast<float*>(memory);
  if (turned) sums.spread_turned(out);
  else sums.spread(out);
  __syncthreads();
  return out;
}

// V sums that are neighbours, with the bias add(e) of each, through an activation.
template <int V, class T, class Add>
__device__ __forceinline__ pack<T, V> finished(float* from, int activation, Add add) {
  constexpr int four = V < 4 ? V : 4;
  using run = pack<float, four>;
  pack<T, V> out;
#pragma unroll
  for (int i = 0; i < V; i += four) {
    run p = *reinterpret_cast<const run*>(from + i);
#pragma unroll
    for (int e = 0; e < four; ++e) p.v[e] += add(i + e);
    if (activation > ACTIVATION_RELU) *reinterpret_cast<run*>(from + i) = p;
#pragma unroll
    for (int e = 0; e < four; ++e) out.v[i + e] = from_acc<T>(activation == ACTIVATION_RELU ? fn::relu(p.v[e]) : p.v[e]);
  }
  if (activation > ACTIVATION_RELU) {  // these are long: one copy of them, not V
#pragma unroll 1
    for (int e = 0; e < V; ++e) from[e] = activated(from[e], activation);
#pragma unroll
    for (int e = 0; e < V; ++e) out.v[e] = from_acc<T>(from[e]);
  }
  return out;
}

// The first `rows` of a block's sums to y[row * apart + place], V neighbours at a time, through bias and activation.
// `place_of` gives the place of a column, -1 if it has none; the places of V neighbours must be neighbours.
template <class S, int V, class T, class Place>
__device__ __forceinline__ void write(float* sums, T* y, const T* b, int rows, index_t apart, int activation,
                                      Place place_of) {
  constexpr int across = S::n / V, down = S::threads / across;
  static_assert(S::threads % across == 0 && V <= 8, "a thread has one column");
  const int column = threadIdx.x % across * V;
  const index_t place = place_of(column);
  if (place < 0) return;
  if (rows > S::m) rows = S::m;
  for (int row = threadIdx.x / across; row < rows; row += down) {
    const float add = b ? load(b + row) : 0.f;
    *reinterpret_cast<pack<T, V>*>(y + row * apart + place) =
        finished<V, T>(sums + row * (S::n + 8) + column, activation, [&](int) { return add; });
  }
}

// The same of turned sums to y[place + row], a chunk of rows at a time; `wide` if places and `rows` are whole chunks.
template <class S, class T, class Place>
__device__ __forceinline__ void write_last(float* sums, T* y, const T* b, int rows, int activation, bool wide,
                                           Place place_of) {
  constexpr int V = chunk_size<T>, across = S::m / V, down = S::threads / across;
  static_assert(S::threads % across == 0, "a thread has one chunk of rows");
  const int row = threadIdx.x % across * V;
  if (row >= rows) return;
  float add[V];
#pragma unroll
  for (int e = 0; e < V; ++e) add[e] = b && row + e < rows ? load(b + row + e) : 0.f;
  for (int column = threadIdx.x / across; column < S::n; column += down) {
    const index_t place = place_of(column);
    if (place < 0) return;
    const pack<T, V> out =
        finished<V, T>(sums + column * (S::m + 4) + row, activation, [&](int e) { return add[e]; });
    if (wide) {
      *reinterpret_cast<pack<T, V>*>(y + place + row) = out;
    } else {
#pragma unroll
      for (int e = 0; e < V; ++e)
        if (row + e < rows) y[place + row + e] = out.v[e];
    }
  }
}

}  // namespace conv_mma_
