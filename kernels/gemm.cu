// Matrix products y = f(a b + bias) of stacks of matrices: a (m, k), b (k, n), y (m, n) without gaps, bias (n) or none.
//
// gemm_mma multiplies on the tensor cores (half, bfloat16; float as TF32), gemm_fma on the ordinary units (float, double;
// half types on cards without bfloat16). A block makes one tile of y from slices of k that arrive by asynchronous copies,
// three slices ahead. Operands are read where they lie: numbers (i, j) of a matrix stand at i * s_i + j * s_j, matrices of
// the stack at z / inner * outer stride + z % inner * inner stride (0 where one matrix serves many), edges are filled with
// zeros. Where y has too few tiles to fill the card, k is split among blocks, each of which writes its part, and
// gemm_finish adds the parts in order. Neighbouring blocks make tiles of the same eight rows of tiles: they share slices
// in the second-level cache.
#include "activation.cuh"
#include "mma_tile.cuh"

// ---- what both share --------------------------------------------------------------------------------------------------

enum { WIDE_A = 1, WIDE_B = 2, WIDE_Y = 4 };  // flags: slices are copied, results are stored, four neighbours at a time

// The tile, the part of k and the matrix of the stack that a block works on.
template <int BM, int BN> struct block_place {
  int row, column, split;
  unsigned z;

  __device__ __forceinline__ block_place(int m, int n, unsigned splits) {
    constexpr unsigned group = 8;
    const unsigned down = (m + BM - 1) / BM, across = (n + BN - 1) / BN, tile = blockIdx.x % (down * across);
    const unsigned first = tile / (group * across) * group, rows = min(down - first, group);
    row = (first + tile % (group * across) % rows) * BM;
    column = tile % (group * across) / rows * BN;
    const unsigned rest = blockIdx.x / (down * across);
    split = rest % splits;
    z = rest / splits;
  }
};

// Where matrix z of a stack of two steps is.
__device__ __forceinline__ index_t of_stack(unsigned z, unsigned inner, index_t s_outer, index_t s_inner) {
  return z / inner * s_outer + z % inner * s_inner;
}

// Which slices of `depth` numbers of k a block sums over.
struct slice_range {
  int first, count;

  __device__ __forceinline__ slice_range(int k, int depth, int split, int splits) {
    const int all = (k + depth - 1) / depth, each = (all + splits - 1) / splits;
    first = split * each;
    count = max(min(all - first, each), 0);
  }
};

// Where sums go: with the bias through the activation to y, or as one part of several.
template <class T> struct sink {
  using A = acc_t<T>;
  static constexpr int per = pack_size<A>;
  const T* bias;
  T* y;     // the matrix of y
  A* part;  // the part of it, if k is split
  int m, n, activation;
  bool wide;

  template <class S> __device__ __forceinline__ void put(S* to, int column, const A (&v)[per]) const {
    if (wide) {
      pack<S, per> p;
#pragma unroll
      for (int e = 0; e < per; ++e) p.v[e] = from_acc<S>(v[e]);
      *reinterpret_cast<pack<S, per>*>(to) = p;
    } else {
#pragma unroll
      for (int e = 0; e < per; ++e)
        if (column + e < n) to[e] = from_acc<S>(v[e]);
    }
  }

  // Takes ROWS x WIDTH sums that lie in shared memory, the first of them at (row, column) of y.
  template <int ROWS, int WIDTH, int THREADS>
  __device__ __forceinline__ void take(const A* from, int pitch, int row, int column) const {
#pragma unroll 1
    for (int e = threadIdx.x; e < ROWS * WIDTH / per; e += THREADS) {
      const int i = row + e / (WIDTH / per), j = column + e % (WIDTH / per) * per;
      if (i >= m || j >= n) continue;
      const pack<A, per> p = *reinterpret_cast<const pack<A, per>*>(from + (i - row) * pitch + j - column);
      const index_t at = index_t(i) * n + j;
      if (part) {
        put(part + at, j, p.v);
        continue;
      }
      A v[per];
#pragma unroll
      for (int e = 0; e < per; ++e)
        v[e] = activated<A>(bias && j + e < n ? p.v[e] + load(bias + j + e) : p.v[e], activation);
      put(y + at, j, v);
    }
  }
};

// ---- tensor cores -----------------------------------------------------------------------------------------------------

template <int BM> constexpr int warp_rows = BM == 128 ? 64 : 32;
template <class T, int BM, bool A_RUNS_K, bool B_RUNS_K>
using gemm_tile = mma_tile<T, BM, BM, warp_rows<BM>, 32, A_RUNS_K, B_RUNS_K>;
constexpr int mma_stages = 4;

template <class T, int BM, bool A_RUNS_K, bool B_RUNS_K>
__global__ void __launch_bounds__(gemm_tile<T, BM, A_RUNS_K, B_RUNS_K>::threads, BM == 128 ? 2 : 4)
gemm_mma(const T* a, const T* b, const T* bias, T* y, float* part, index_t m, index_t n, index_t k, index_t a_m,
         index_t a_k, index_t b_k, index_t b_n, index_t inner, index_t a_outer, index_t a_inner, index_t b_outer,
         index_t b_inner, index_t splits, index_t activation, index_t flags) {
  using tile = gemm_tile<T, BM, A_RUNS_K, B_RUNS_K>;
  using a_slice = typename tile::a_slice;
  using b_slice = typename tile::b_slice;
  constexpr int depth = tile_depth<T>, stage_size = a_slice::size + b_slice::size;
  extern __shared__ __align__(16) unsigned char memory[];
  T* const stages = reinterpret_cast<T*>(memory);

  const block_place<BM, BM> at(m, n, splits);
  const slice_range range(k, depth, at.split, splits);
  const index_t a_apart = A_RUNS_K ? a_m : a_k, b_apart = B_RUNS_K ? b_n : b_k;
  const index_t a_step = A_RUNS_K ? depth : depth * a_k, b_step = B_RUNS_K ? depth : depth * b_k;
  a += of_stack(at.z, inner, a_outer, a_inner) + at.row * (A_RUNS_K ? a_m : 1) + range.first * a_step;
  b += of_stack(at.z, inner, b_outer, b_inner) + at.column * (B_RUNS_K ? b_n : 1) + range.first * b_step;
  const int rows = int(m) - at.row, columns = int(n) - at.column;
  int left = int(k) - range.first * depth;  // numbers of k from here on

  tile sums;
  pipelined<mma_stages>(
      range.count,
      [&](int stage) {
        T* const s = stages + stage * stage_size;
        fill_slice<a_slice, tile::threads>(s, a, a_apart, A_RUNS_K ? rows : left, A_RUNS_K ? left : rows, flags & WIDE_A);
        fill_slice<b_slice, tile::threads>(s + a_slice::size, b, b_apart, B_RUNS_K ? columns : left,
                                           B_RUNS_K ? left : columns, flags & WIDE_B);
        a += a_step, b += b_step, left -= depth;
      },
      [&](int stage) {
        const T* const s = stages + stage * stage_size;
        sums.multiply(s, s + a_slice::size);
      });

  static_assert(tile::out_size * sizeof(float) <= mma_stages * stage_size * sizeof(T), "the sums fit where slices were");
  float* const spread = reinterpret_cast<float*>(memory);
  __syncthreads();
  sums.spread(spread);
  __syncthreads();
  const index_t size = m * n;
  float* const mine = part ? part + (index_t(at.z) * splits + at.split) * size : nullptr;
  const sink<T> out{bias, y + at.z * size, mine, int(m), int(n), int(activation), bool(flags & WIDE_Y)};
  out.template take<BM, BM, tile::threads>(spread, tile::out_pitch, at.row, at.column);
}

// ---- ordinary units ---------------------------------------------------------------------------------------------------

constexpr int fma_threads = 256, fma_depth = 8, fma_stages = 4;

// Starts copies of a slice [fma_depth][PITCH] of `size` rows of a or columns of b, which stand `s_i` apart, and their
// numbers along k `s_k`. Neighbouring threads copy numbers that are neighbours in memory; those of 16 bits are widened.
template <class T, int SIZE, int PITCH>
__device__ __forceinline__ void fill_fma(acc_t<T>* to, const T* from, index_t s_i, index_t s_k, int size, int left, bool wide) {
  constexpr int per = 16 / int(sizeof(T)), chunks = SIZE / per;
  if (sizeof(T) > 2 && wide) {
    if constexpr (sizeof(T) > 2)
      for (int e = threadIdx.x; e < fma_depth * chunks; e += fma_threads) {
        const int k = e / chunks, i = e % chunks * per;
        copy_async<16>(to + k * PITCH + i, from + k * s_k + i, k < left && i < size);
      }
  } else {
    const auto copy = [&](int k, int i) {
      const bool live = k < left && i < size;
      const T* p = from + i * s_i + k * s_k;
      if constexpr (sizeof(T) > 2) copy_async<int(sizeof(T))>(to + k * PITCH + i, p, live);
      else to[k * PITCH + i] = live ? load(p) : 0;
    };
    if (s_k == 1) {
#pragma unroll 1
      for (int i = threadIdx.x / fma_depth; i < SIZE; i += fma_threads / fma_depth) copy(threadIdx.x % fma_depth, i);
    } else {
#pragma unroll 1
      for (int k = threadIdx.x / SIZE; k < fma_depth; k += fma_threads / SIZE) copy(k, threadIdx.x % SIZE);
    }
  }
}

// 16 x 16 threads, of which each makes BM / 16 rows and columns of a tile, in packs of 16 bytes that stand side by side
// with those of the other threads.
template <class T, int BM>
__global__ void __launch_bounds__(fma_threads, 2)
gemm_fma(const T* a, const T* b, const T* bias, T* y, acc_t<T>* part, index_t m, index_t n, index_t k, index_t a_m,
         index_t a_k, index_t b_k, index_t b_n, index_t inner, index_t a_outer, index_t a_inner, index_t b_outer,
         index_t b_inner, index_t splits, index_t activation, index_t flags) {
  using A = acc_t<T>;
  constexpr int per = pack_size<A>, packs = BM / 16 / per, pitch = BM + per, slice = fma_depth * pitch;
  __shared__ __align__(16) A memory[fma_stages * 2 * slice];

  const block_place<BM, BM> at(m, n, splits);
  const slice_range range(k, fma_depth, at.split, splits);
  a += of_stack(at.z, inner, a_outer, a_inner) + at.row * a_m + index_t(range.first) * fma_depth * a_k;
  b += of_stack(at.z, inner, b_outer, b_inner) + at.column * b_n + index_t(range.first) * fma_depth * b_k;
  int left = int(k) - range.first * fma_depth;
  const int row = threadIdx.x / 16 * per, column = threadIdx.x % 16 * per;

  A sums[packs * per][packs * per] = {};
  pipelined<fma_stages>(
      range.count,
      [&](int stage) {
        A* const s = memory + stage * 2 * slice;
        fill_fma<T, BM, pitch>(s, a, a_m, a_k, int(m) - at.row, left, flags & WIDE_A);
        fill_fma<T, BM, pitch>(s + slice, b, b_n, b_k, int(n) - at.column, left, flags & WIDE_B);
        a += fma_depth * a_k, b += fma_depth * b_k, left -= fma_depth;
      },
      [&](int stage) {
        const A* const s = memory + stage * 2 * slice;
#pragma unroll 2  // more spills registers
        for (int k = 0; k < fma_depth; ++k) {
          pack<A, per> u[packs], v[packs];
#pragma unroll
          for (int p = 0; p < packs; ++p) {
            u[p] = *reinterpret_cast<const pack<A, per>*>(s + k * pitch + p * 16 * per + row);
            v[p] = *reinterpret_cast<const pack<A, per>*>(s + slice + k * pitch + p * 16 * per + column);
          }
#pragma unroll
          for (int i = 0; i < packs * per; ++i)
#pragma unroll
            for (int j = 0; j < packs * per; ++j) sums[i][j] += u[i / per].v[i % per] * v[j / per].v[j % per];
        }
      });

  const index_t size = m * n;
  A* const mine = part ? part + (index_t(at.z) * splits + at.split) * size : nullptr;
  const sink<T> out{bias, y + at.z * size, mine, int(m), int(n), int(activation), bool(flags & WIDE_Y)};
  constexpr int passes = BM / 64, some = packs / passes;  // 64 rows of sums fit where slices were
  static_assert(64 * pitch <= fma_stages * 2 * slice);
#pragma unroll
  for (int p = 0; p < passes; ++p) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < some * per; ++i)
#pragma unroll
      for (int j = 0; j < packs * per; ++j)
        memory[(i / per * 16 * per + row + i % per) * pitch + j / per * 16 * per + column + j % per] =
            sums[p * some * per + i][j];
    __syncthreads();
    out.template take<64, BM, fma_threads>(memory, pitch, at.row + p * 64, at.column);
  }
}

// ---- the parts of a split product -------------------------------------------------------------------------------------

// y = f(sum over parts + bias): parts (stack, splits, m, n), `size` = m n numbers each.
template <class T>
__global__ void __launch_bounds__(256)
gemm_finish(const acc_t<T>* part, const T* bias, T* y, index_t count, index_t size, index_t n, index_t splits,
            index_t activation) {
  for (index_t i = grid_thread(); i < count; i += grid_threads()) {
    const acc_t<T>* p = part + i / size * splits * size + i % size;
    acc_t<T> sum = p[0];
    for (index_t s = 1; s < splits; ++s) sum += p[s * size];
    if (bias) sum += load(bias + i % size % n);
    store(y + i, activated<acc_t<T>>(sum, int(activation)));
  }
}
