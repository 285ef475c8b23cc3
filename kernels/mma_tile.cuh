// A tile of a matrix product on the tensor cores: slices of both operands in shared memory, fragments, accumulators.
//
// A block sums y = a b over slices of tile_depth<T> numbers of k (64 bytes). A slice of a is held as it lies in device
// memory, so that it is copied 16 bytes at a time whichever way the operand runs: its lines are rows of a (RUNS_K, k along
// the line) or columns (m along the line), those of b columns or rows. Lines are padded so that the eight 16-byte rows that
// ldmatrix reads at once, and the 32 words that a warp reads of a line of floats, lie in different banks.
#pragma once
#include "mma.cuh"

template <class T> constexpr int tile_depth = 64 / int(sizeof(T));

// A slice of an operand in shared memory: of `SIZE` rows of a or columns of b.
template <class T, int SIZE, bool RUNS_K> struct tile_slice {
  static constexpr int lines = RUNS_K ? SIZE : tile_depth<T>;
  static constexpr int run = RUNS_K ? tile_depth<T> : SIZE;
  static constexpr int pitch = run + (RUNS_K ? 16 / int(sizeof(T)) : 8);
  static constexpr int size = lines * pitch;  // numbers
};

// Starts copies of a slice by THREADS threads: `from` is its corner, lines stand `apart`, and of its lines and their numbers
// so many are there; the rest become zeros. `wide`: corner, distance and length of lines are multiples of 16 bytes.
template <class Slice, int THREADS, class T>
__device__ __forceinline__ void fill_slice(T* to, const T* from, index_t apart, int lines, int numbers, bool wide) {
  if (wide) {
    constexpr int per = 16 / int(sizeof(T)), chunks = Slice::run / per, step = THREADS / chunks;
    static_assert(THREADS % chunks == 0 && Slice::lines % step == 0, "every thread copies as many chunks");
    // Of lines of four chunks, eight lanes write two that stand four apart: they lie in different banks.
    const int q = threadIdx.x / chunks, at = threadIdx.x % chunks * per;
    const int line = chunks == 4 ? q / 8 * 8 + q % 2 * 4 + q % 8 / 2 : q;
    const T* p = from + line * apart + at;
#pragma unroll
    for (int i = 0; i < Slice::lines; i += step) {
      const bool live = line + i < lines && at < numbers;
      copy_async<16>(to + (line + i) * Slice::pitch + at, p + i * apart, live);
    }
  } else {
#pragma unroll 1  // more spills registers
    for (int e = threadIdx.x; e < Slice::lines * Slice::run; e += THREADS) {
      const int line = e / Slice::run, at = e % Slice::run;
      const bool live = line < lines && at < numbers;
      const T* p = live ? from + line * apart + at : from;
      if constexpr (sizeof(T) >= 4) copy_async<int(sizeof(T))>(to + line * Slice::pitch + at, p, live);
      else to[line * Slice::pitch + at] = live ? *p : from_acc<T>(0);
    }
  }
}

// Runs use(stage) for each of `steps` slices, and fill(stage) for one after the other so far ahead that STAGES - 1 are under
// way. One barrier a step: a stage is filled again only after all threads have passed the barrier that follows its use.
template <int STAGES, class Fill, class Use> __device__ __forceinline__ void pipelined(int steps, Fill fill, Use use) {
#pragma unroll
  for (int s = 0; s < STAGES - 1; ++s) {
    if (s < steps) fill(s);
    copy_commit();
  }
  int stage = 0, next = STAGES - 1;
  for (int i = 0; i < steps; ++i) {
    copy_wait<STAGES - 2>();
    __syncthreads();
    if (i + STAGES - 1 < steps) fill(next);
    copy_commit();
    use(stage);
    if (++stage == STAGES) stage = 0;
    if (++next == STAGES) next = 0;
  }
}

// The BM x BN accumulators of a block, WM x WN to a warp, warps side by side along n first. ROUND: floats of the slices are
// not of TF32 yet.
template <class T, int BM, int BN, int WM, int WN, bool A_RUNS_K, bool B_RUNS_K, bool ROUND = true> struct mma_tile {
  static constexpr int threads = BM / WM * (BN / WN) * 32, m_tiles = WM / 16, n_tiles = WN / 8;
  static constexpr int per = 16 / int(sizeof(T));  // numbers in a row that ldmatrix reads
  using a_slice = tile_slice<T, BM, A_RUNS_K>;
  using b_slice = tile_slice<T, BN, B_RUNS_K>;
  static_assert(WM % 16 == 0 && WN % 16 == 0, "a warp's columns are read two tiles at a time");

  float d[m_tiles][n_tiles][4] = {};

  static __device__ __forceinline__ int warp_row() { return threadIdx.x / 32 / (BN / WN) * WM; }
  static __device__ __forceinline__ int warp_column() { return threadIdx.x / 32 % (BN / WN) * WN; }

  // Four 8-row matrices from the corner (i, k): r[0] (i, k), r[FIRST] (i + 8, k), r[3 - FIRST] (i, k + per), r[3] both.
  template <class Slice, bool RUNS_K, int FIRST>
  static __device__ __forceinline__ void fragment(unsigned (&r)[4], const T* slice, int i, int k) {
    const int lane = threadIdx.x % 32;
    if constexpr (RUNS_K || sizeof(T) == 2) {
      const int j = lane % 8, matrix = lane / 8;
      const int down = (FIRST == 1 ? matrix & 1 : matrix >> 1) * 8, along = (FIRST == 1 ? matrix >> 1 : matrix & 1) * per;
      if constexpr (RUNS_K) load_matrices(r, slice + (i + down + j) * Slice::pitch + k + along);
      else load_matrices<true>(r, slice + (k + along + j) * Slice::pitch + i + down);
    } else {  // ldmatrix turns only 16-bit numbers over
      const unsigned* p = reinterpret_cast<const unsigned*>(slice) + (k + lane % 4) * Slice::pitch + i + lane / 4;
      r[0] = p[0], r[FIRST] = p[8], r[3 - FIRST] = p[per * Slice::pitch], r[3] = p[per * Slice::pitch + 8];
    }
    if constexpr (sizeof(T) == 4 && ROUND) {
#pragma unroll
      for (int e = 0; e < 4; ++e) r[e] = to_tf32(__uint_as_float(r[e]));
    }
  }

  // Adds the product of two slices.
  __device__ __forceinline__ void multiply(const T* sa, const T* sb) {
#pragma unroll
    for (int k = 0; k < tile_depth<T>; k += mma_depth<T>) {
      unsigned a[m_tiles][4], b[n_tiles / 2][4];
#pragma unroll
      for (int i = 0; i < m_tiles; ++i) fragment<a_slice, A_RUNS_K, 1>(a[i], sa, warp_row() + 16 * i, k);
#pragma unroll
      for (int j = 0; j < n_tiles / 2; ++j) fragment<b_slice, B_RUNS_K, 2>(b[j], sb, warp_column() + 16 * j, k);
#pragma unroll
      for (int i = 0; i < m_tiles; ++i)
#pragma unroll
        for (int j = 0; j < n_tiles; ++j) {
          const unsigned columns[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
          mma<T>(d[i][j], a[i], columns);
        }
    }
  }

  static constexpr int out_pitch = BN + 8, out_size = BM * out_pitch;  // of the sums in shared memory, in floats

  // Lays the sums out in shared memory as rows of out_pitch, for all threads to go on with after a barrier.
  __device__ __forceinline__ void spread(float* to) const {
    to += (warp_row() + threadIdx.x % 32 / 4) * out_pitch + warp_column() + threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < m_tiles; ++i)
#pragma unroll
      for (int j = 0; j < n_tiles; ++j)
#pragma unroll
        for (int down = 0; down < 2; ++down)
          *reinterpret_cast<pack<float, 2>*>(to + (16 * i + 8 * down) * out_pitch + 8 * j) =
              pack<float, 2>{{d[i][j][2 * down], d[i][j][2 * down + 1]}};
  }

  static constexpr int turned_pitch = BM + 4;

  // The same as columns of turned_pitch: what a warp stores at once lies in different banks.
  __device__ __forceinline__ void spread_turned(float* to) const {
    to += warp_row() + threadIdx.x % 32 / 4 + (warp_column() + threadIdx.x % 4 * 2) * turned_pitch;
#pragma unroll
    for (int i = 0; i < m_tiles; ++i)
#pragma unroll
      for (int j = 0; j < n_tiles; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) to[(8 * j + e % 2) * turned_pitch + 16 * i + e / 2 * 8] = d[i][j][e];
  }
};
