// The matrix product inside a recurrent step: a tile of ROWS sequences by COLUMNS numbers, all of it summed by one block.
//
// Both operands lie with k along their lines: states or gradients a (a line is a sequence) and weights b (a line is a column
// of the product). The tile is small, so that a step of few sequences fills the card, and k is long: it comes in slices, STAGES
// - 1 of them on their way, and each of the 8 warps multiplies 16 rows and all columns over its own 32 bytes of a slice. Their
// sums meet in shared memory and are added in a fixed order by the thread that finishes the number. The weights are read from
// the second-level cache at every step. MMA: tensor cores (half types; float as TF32), else multiplications and additions.
#pragma once
#include "mma_tile.cuh"

constexpr int STEP_THREADS = 256;

template <class T, bool MMA, int ROWS, int COLUMNS> struct step_tile {
  using A = acc_t<T>;
  static constexpr int STAGES = 5, bands = ROWS / 16, splits = STEP_THREADS / 32 / bands;
  static constexpr int per = 16 / int(sizeof(T));              // numbers that are copied, or read, at a time
  static constexpr int run = 2 * per * splits, pitch = run + per;  // of a slice's line; padded against bank conflicts
  static constexpr int lines = ROWS + COLUMNS, slice = lines * pitch;
  static constexpr int chunks = lines * run / per, copies = int(ceil_div(chunks, STEP_THREADS));
  static constexpr int across = COLUMNS + 8 * (COLUMNS % 16 == 0), part = ROWS * across;  // of a split's sums, padded likewise
  static constexpr int sums = splits * part * int(sizeof(A)), slices = STAGES * slice * int(sizeof(T));
  static constexpr int bytes = sums > slices ? sums : slices;  // of shared memory, for slices and then for sums
  static_assert(ROWS % 16 == 0 && COLUMNS % 8 == 0 && bytes <= 48 << 10, "what a warp multiplies and a block may have");

  // Sums over k, a multiple of `per`. row(i) and column(j) are the lines, aligned to 16 bytes, or null for zeros.
  template <class Row, class Column>
  static __device__ __forceinline__ void product(void* memory, Row row, Column column, const T* some, int k) {
    T* const to = static_cast<T*>(memory);
    const T* from[copies];
    int place[copies], left[copies];
#pragma unroll
    for (int c = 0; c < copies; ++c) {
      const int e = threadIdx.x + c * STEP_THREADS, line = e / (run / per), at = e % (run / per) * per;
      const T* p = e >= chunks ? nullptr : line < ROWS ? row(line) : column(line - ROWS);
      from[c] = p ? p + at : some;
      left[c] = p ? k - at : 0;
      place[c] = line * pitch + at;
    }
    A d[COLUMNS / 8][4] = {};
    pipelined<STAGES>(
        int(ceil_div(k, run)),
        [&](int stage) {
#pragma unroll
          for (int c = 0; c < copies; ++c) {
            if (chunks % STEP_THREADS == 0 || threadIdx.x + c * STEP_THREADS < chunks)
              copy_async<16>(to + stage * slice + place[c], left[c] > 0 ? from[c] : some, left[c] > 0);
            from[c] += run, left[c] -= run;
          }
        },
        [&](int stage) { multiply(d, to + stage * slice); });
    __syncthreads();  // the slices are read
    A* const mine = static_cast<A*>(memory) + warp() / bands * part;
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; ++j)
      if constexpr (MMA) {
        using pair = pack<A, 2>;
        *reinterpret_cast<pair*>(mine + own_row(0) * across + 8 * j + own_column(0)) = pair{{d[j][0], d[j][1]}};
        *reinterpret_cast<pair*>(mine + own_row(2) * across + 8 * j + own_column(2)) = pair{{d[j][2], d[j][3]}};
      } else {
#pragma unroll
        for (int e = 0; e < 4; ++e) mine[own_row(e) * across + 8 * j + own_column(e)] = d[j][e];
      }
    __syncthreads();
  }

  // A number of the product, after it.
  static __device__ __forceinline__ A total(const void* memory, int row, int column) {
    const A* first = static_cast<const A*>(memory) + row * across + column;
    A sum = first[0];
#pragma unroll
    for (int s = 1; s < splits; ++s) sum += first[s * part];
    return sum;
  }

 private:
  static __device__ __forceinline__ int warp() { return threadIdx.x / 32; }
  static __device__ __forceinline__ int band() { return warp() % bands * 16; }

  // The places of a lane's four sums in the 16 x 8 of its warp: as mma has them, or four rows of one column.
  static __device__ __forceinline__ int own_row(int e) {
    const int lane = threadIdx.x % 32;
    return band() + (MMA ? lane / 4 + e / 2 * 8 : lane / 8 + 4 * e);
  }
  static __device__ __forceinline__ int own_column(int e) {
    const int lane = threadIdx.x % 32;
    return MMA ? lane % 4 * 2 + e % 2 : lane % 8;
  }

  static __device__ __forceinline__ void multiply(A (&d)[COLUMNS / 8][4], const T* in) {
    const int lane = threadIdx.x % 32;
    const T *a = in + band() * pitch + warp() / bands * 2 * per, *b = in + ROWS * pitch + warp() / bands * 2 * per;
    if constexpr (MMA) {
      unsigned rows[4], columns[2 * (COLUMNS / 8)];
      load_matrices(rows, a + lane % 16 * pitch + lane / 16 * per);  // rows 0-7, 8-15, and both further along k
#pragma unroll
      for (int j = 0; j < COLUMNS / 8; j += 2) {
        const T* line = b + (8 * j + lane % 8) * pitch + lane / 8 % 2 * per;
        if (j + 1 < COLUMNS / 8) {
          unsigned four[4];
          load_matrices(four, line + lane / 16 * 8 * pitch);
#pragma unroll
          for (int e = 0; e < 4; ++e) columns[2 * j + e] = four[e];
        } else {
          unsigned two[2];
          load_matrices(two, line);
          columns[2 * j] = two[0], columns[2 * j + 1] = two[1];
        }
      }
      if constexpr (sizeof(T) == 4) {
#pragma unroll
        for (unsigned& v : rows) v = to_tf32(__uint_as_float(v));
#pragma unroll
        for (unsigned& v : columns) v = to_tf32(__uint_as_float(v));
      }
#pragma unroll
      for (int j = 0; j < COLUMNS / 8; ++j) {
        const unsigned two[2] = {columns[2 * j], columns[2 * j + 1]};
        mma<T>(d[j], rows, two);
      }
    } else {
      using line = pack<T, per>;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        line rows[4], columns[COLUMNS / 8];
#pragma unroll
        for (int e = 0; e < 4; ++e)
          rows[e] = *reinterpret_cast<const line*>(a + (lane / 8 + 4 * e) * pitch + half * per);
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; ++j)
          columns[j] = *reinterpret_cast<const line*>(b + (8 * j + lane % 8) * pitch + half * per);
#pragma unroll
        for (int i = 0; i < per; ++i)
#pragma unroll
          for (int j = 0; j < COLUMNS / 8; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) d[j][e] += to_acc<T>(rows[e].v[i]) * to_acc<T>(columns[j].v[i]);
      }
    }
  }
};
