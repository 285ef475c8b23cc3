// Tiles of attention: rows in shared memory, and the two products that all its kernels are made of.
//
// A block keeps ROWS rows of one matrix in shared memory and streams COLS rows of others past them. Its warps share the
// rows out, and each computes its own rows of
//     scores  s (ROWS x COLS) += a b^T       a (ROWS x D) stays, b (COLS x D) streams
//     result  o (ROWS x D)    += p b         p (ROWS x COLS) in registers, b (COLS x D) streams
// The same for queries that stay while keys stream and for keys that stay while queries stream, which is the gradient. Two
// kinds of tile say which of these numbers a thread holds: tensor_tile by mma.sync, whose scores are the left operand of
// the second product as they stand, and plain_tile by multiplications in true float.
#pragma once
#include "mma.cuh"
#include "random.cuh"

// What both kinds agree on: a row of D numbers is followed by a gap of 16 bytes, so that the 16-byte pieces of eight rows lie in
// different banks; WARPS warps own ROWS / WARPS rows each; 2 STAGES let the next tiles arrive while this one is worked on.
template <class T_, int D_, int ROWS_, int COLS_, int WARPS, int STAGES_> struct tile {
  using T = T_;
  static constexpr int D = D_, ROWS = ROWS_, COLS = COLS_, STAGES = STAGES_, THREADS = 32 * WARPS, OWN = ROWS / WARPS;
  static constexpr int PACK = pack_size<T>, PITCH = D + PACK, CHUNKS = D / PACK;
  static __device__ __forceinline__ int warp() { return threadIdx.x / 32; }
  static __device__ __forceinline__ int lane() { return threadIdx.x % 32; }

  // A matrix (rows x width, `step` between rows) as this thread copies it: 16 bytes of each row that is its own, which arrive at
  // the wait for them, or where they are not aligned (`packed`) number by number.
  struct source {
    const T* x;
    index_t step;
    int rows, width;
    bool packed;
    static constexpr int APART = THREADS / CHUNKS;  // rows between two pieces of a thread
    static_assert(THREADS % CHUNKS == 0, "a thread has the same columns of all its rows");

    // N rows into a tile, from row `first` of the matrix `ahead` numbers on, zeros beyond.
    template <int N> __device__ __forceinline__ void fetch(T* to, int first, index_t ahead = 0) const {
      if (packed) {
        const int row = threadIdx.x / CHUNKS, c = threadIdx.x % CHUNKS * PACK, last = c < width ? rows - first : 0;
        const T* from = x + ahead + (first + row) * step + c;
        to += row * PITCH + c;
#pragma unroll
        for (int i = 0; i < N; i += APART)
          if (N % APART == 0 || i + row < N) copy_async<16>(to + i * PITCH, from + i * step, i + row < last);
      } else {
#pragma unroll 1
        for (int i = threadIdx.x; i < N * D; i += THREADS) {
          const int r = i / D, c = i % D;
          to[r * PITCH + c] = first + r < rows && c < width ? x[ahead + (first + r) * step + c] : from_acc<T>(0.0f);
        }
      }
    }
  };

  // This warp's rows of a tile to their places in a matrix, if they have any.
  static __device__ __forceinline__ void write(T* y, index_t step, int first, int rows, int width, bool packed, const T* from) {
    for (int i = lane(); i < OWN * CHUNKS; i += 32) {
      const int r = warp() * OWN + i / CHUNKS, c = i % CHUNKS * PACK;
      if (first + r >= rows || c >= width) continue;
      T* to = y + (first + r) * step + c;
      const T* piece = from + r * PITCH + c;
      if (packed) {
        *reinterpret_cast<pack<T, PACK>*>(to) = *reinterpret_cast<const pack<T, PACK>*>(piece);
      } else {
        for (int j = 0; j < PACK && c + j < width; ++j) to[j] = piece[j];
      }
    }
  }
};

// ---- tensor cores -----------------------------------------------------------------------------------------------------

// M products of 16 rows to a warp. Of lane l, g = l / 4 and t = l % 4: its rows are g and g + 8 of each 16, its columns 2t and
// 2t + 1 of each 8.
template <class T_, int D_, int M, int COLS_, int WARPS, int STAGES_>
struct tensor_tile : tile<T_, D_, 16 * M * WARPS, COLS_, WARPS, STAGES_> {
  using base = tile<T_, D_, 16 * M * WARPS, COLS_, WARPS, STAGES_>;
  using T = T_;
  using base::lane, base::warp, base::PITCH, base::D, base::COLS, base::OWN;
  static constexpr int R = 2 * M, SCRATCH = 0, BLOCKS = sizeof(T) * M * D <= 128 ? 3 : 2;  // BLOCKS on a multiprocessor at least
  static constexpr int ROW_LANES = 4, ROW_STEP = 1, COL_LANES = 8, COL_STEP = 4;  // lanes that share a row, or a column
  static constexpr int DEPTH = mma_depth<T>;

  template <int W> struct numbers {
    static constexpr int C = W / 4;
    float v[M][W / 8][4];
    __device__ __forceinline__ float& operator()(int r, int c) { return v[r / 2][c / 2][r % 2 * 2 + c % 2]; }
  };
  using scores = numbers<COLS>;
  using result = numbers<D>;
  static __device__ __forceinline__ int row(int r) { return warp() * OWN + r / 2 * 16 + r % 2 * 8 + lane() / 4; }
  static __device__ __forceinline__ int col(int c) { return c / 2 * 8 + lane() % 4 * 2 + c % 2; }
  static __device__ __forceinline__ int place(int c) { return col(c); }  // of a result's number

  template <int N> static __device__ __forceinline__ void rounded(unsigned (&x)[N]) {
    if constexpr (sizeof(T) == 4)
#pragma unroll
      for (int i = 0; i < N; ++i) x[i] = to_tf32(__uint_as_float(x[i]));
  }

  // d += x y for all of this warp's rows and 16 columns.
  template <int W>
  static __device__ __forceinline__ void multiply(numbers<W>& d, int n, const unsigned (&x)[M][4], const unsigned (&y)[4]) {
    const unsigned low[2] = {y[0], y[1]}, high[2] = {y[2], y[3]};
#pragma unroll
    for (int m = 0; m < M; ++m) {
      mma<T>(d.v[m][n / 8], x[m], low);
      mma<T>(d.v[m][n / 8 + 1], x[m], high);
    }
  }

  static __device__ __forceinline__ void add_scores(scores& s, const T* a, const T* b) {
#pragma unroll
    for (int k = 0; k < D; k += DEPTH) {
      unsigned x[M][4], y[4];
#pragma unroll
      for (int m = 0; m < M; ++m) {
        load_matrices(x[m], a + (warp() * OWN + 16 * m + lane() % 16) * PITCH + k + lane() / 16 * (DEPTH / 2));
        rounded(x[m]);
      }
#pragma unroll
      for (int n = 0; n < COLS; n += 16) {
        load_matrices(y, b + (n + lane() / 16 * 8 + lane() % 8) * PITCH + k + lane() / 8 % 2 * (DEPTH / 2));
        rounded(y);
        multiply(s, n, x, y);
      }
    }
  }

  // Numbers 2t and 2t + 1 of a row of p are where the left operand of 16-bit numbers has them. That of TF32 has numbers t and
  // t + 4: there the sum runs in another order, in which b is read too.
  static __device__ __forceinline__ void add_result(result& o, scores& p, const T* b, float*) {
#pragma unroll
    for (int k = 0; k < COLS; k += DEPTH) {
      unsigned x[M][4], y[4];
#pragma unroll
      for (int m = 0; m < M; ++m) {
        const float (&v)[4] = p.v[m][k / 8];
        if constexpr (sizeof(T) == 2) {
          const float (&w)[4] = p.v[m][k / 8 + 1];
          x[m][0] = to_pair<T>(v[0], v[1]);
          x[m][1] = to_pair<T>(v[2], v[3]);
          x[m][2] = to_pair<T>(w[0], w[1]);
          x[m][3] = to_pair<T>(w[2], w[3]);
        } else {
          x[m][0] = to_tf32(v[0]);
          x[m][1] = to_tf32(v[2]);
          x[m][2] = to_tf32(v[1]);
          x[m][3] = to_tf32(v[3]);
        }
      }
#pragma unroll
      for (int n = 0; n < D; n += 16) {
        if constexpr (sizeof(T) == 2) {
          load_matrices<true>(y, b + (k + lane() % 16) * PITCH + n + lane() / 16 * 8);
        } else {
#pragma unroll
          for (int i = 0; i < 4; ++i)
            y[i] = __float_as_uint(b[(k + lane() % 4 * 2 + i % 2) * PITCH + n + i / 2 * 8 + lane() / 4]);
          rounded(y);
        }
        multiply(o, n, x, y);
      }
    }
  }

  // factor o into this warp's rows of a tile.
  static __device__ __forceinline__ void put(T* to, result& o, const float (&factor)[R]) {
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int c = 0; c < result::C; c += 2)
        *reinterpret_cast<pack<T, 2>*>(to + row(r) * PITCH + place(c)) = {
            from_acc<T>(o(r, c) * factor[r]), from_acc<T>(o(r, c + 1) * factor[r])};
  }
};

// ---- true float -------------------------------------------------------------------------------------------------------

// A warp is 4 x 8 lanes with R rows each, 4 apart; of the scores lane l has every eighth column from l % 8 on, of a result
// four neighbours of every 32. The scores pass through memory of the warp's own to be multiplied again.
template <int D_, int R_, int COLS_, int WARPS, int STAGES_>
struct plain_tile : tile<float, D_, 4 * R_ * WARPS, COLS_, WARPS, STAGES_> {
  using base = tile<float, D_, 4 * R_ * WARPS, COLS_, WARPS, STAGES_>;
  using T = float;
  using base::lane, base::warp, base::PITCH, base::D, base::COLS, base::OWN, base::ROWS;
  static constexpr int R = R_, BLOCKS = 1, GAP = COLS + 8, SCRATCH = ROWS * GAP;
  static constexpr int ROW_LANES = 8, ROW_STEP = 1, COL_LANES = 4, COL_STEP = 8;

  template <int W> struct numbers {
    static constexpr int C = W / 8;
    float v[R][C];
    __device__ __forceinline__ float& operator()(int r, int c) { return v[r][c]; }
  };
  using scores = numbers<COLS>;
  using result = numbers<D>;
  static __device__ __forceinline__ int row(int r) { return warp() * OWN + r * 4 + lane() / 8; }
  static __device__ __forceinline__ int col(int c) { return c * 8 + lane() % 8; }
  static __device__ __forceinline__ int place(int c) { return c / 4 * 32 + lane() % 8 * 4 + c % 4; }
  static __device__ __forceinline__ pack<float, 4> four(const float* p) { return *reinterpret_cast<const pack<float, 4>*>(p); }

  static __device__ __forceinline__ void add_scores(scores& s, const T* a, const T* b) {
#pragma unroll 4
    for (int k = 0; k < D; k += 4) {
      pack<float, 4> y[scores::C];
#pragma unroll
      for (int c = 0; c < scores::C; ++c) y[c] = four(b + col(c) * PITCH + k);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const pack<float, 4> x = four(a + row(r) * PITCH + k);
#pragma unroll
        for (int c = 0; c < scores::C; ++c)
#pragma unroll
          for (int j = 0; j < 4; ++j) s(r, c) += x.v[j] * y[c].v[j];
      }
    }
  }

  static __device__ __forceinline__ void add_result(result& o, scores& p, const T* b, float* scratch) {
    __syncwarp();  // the reads of an earlier call are over
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int c = 0; c < scores::C; ++c) scratch[row(r) * GAP + col(c)] = p(r, c);
    __syncwarp();
#pragma unroll 2
    for (int k = 0; k < COLS; k += 4) {
      pack<float, 4> x[R];
#pragma unroll
      for (int r = 0; r < R; ++r) x[r] = four(scratch + row(r) * GAP + k);
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int c = 0; c < result::C; c += 4) {
          const pack<float, 4> y = four(b + (k + j) * PITCH + place(c));
#pragma unroll
          for (int r = 0; r < R; ++r)
#pragma unroll
            for (int i = 0; i < 4; ++i) o(r, c + i) += x[r].v[j] * y.v[i];
        }
    }
  }

  static __device__ __forceinline__ void put(T* to, result& o, const float (&factor)[R]) {
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int c = 0; c < result::C; c += 4) {
        pack<float, 4> y;
#pragma unroll
        for (int i = 0; i < 4; ++i) y.v[i] = o(r, c + i) * factor[r];
        *reinterpret_cast<pack<float, 4>*>(to + row(r) * PITCH + place(c)) = y;
      }
  }
};

// ---- lanes that share a row or a column -------------------------------------------------------------------------------

// Over LANES lanes of a warp, STEP apart; each of them gets the result.
template <int LANES, int STEP, class T, class Op> __device__ __forceinline__ T shared_reduce(T v, Op op) {
#pragma unroll
  for (int d = STEP; d < LANES * STEP; d *= 2) v = op(v, __shfl_xor_sync(0xffffffffu, v, d));
  return v;
}

struct either_of { template <class T> __device__ T operator()(T a, T b) const { return a | b; } };
struct larger_of { __device__ float operator()(float a, float b) const { return fmaxf(a, b); } };  // NaN is seen later

// Which of N <= 64 neighbours, from number i of a stream on, are kept, a bit each. LANES lanes, STEP apart, draw their blocks
// in turns; all lanes of the warp must call it.
struct draws {
  word key, counter, limit;
  const word* replay;
  template <int N, int LANES, int STEP> __device__ __forceinline__ word kept(index_t i) const {
    const int skew = int(i % 8), rank = threadIdx.x % 32 / STEP % LANES;
    word bits = 0;
    unsigned last = 0;  // the block that begins at the 64th bit
#pragma unroll 1
    for (int j = rank; 8 * j < N + skew; j += LANES) {
      const random_block b = draw(key, counter, replay, word(i / 8 + j));
      unsigned byte = 0;
#pragma unroll
      for (int h = 0; h < 8; ++h) byte |= unsigned(b.half(h) >= limit) << h;
      if (j < 8) bits |= word(byte) << 8 * j;
      else last = byte;
    }
    bits = shared_reduce<LANES, STEP>(bits, either_of()) >> skew;
    if constexpr (N == 64) {
      last = shared_reduce<LANES, STEP>(last, either_of());
      if (skew) bits |= word(last) << (64 - skew);
    }
    return bits;
  }
};
