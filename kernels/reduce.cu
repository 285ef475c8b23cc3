// Sums over rows and over columns, each array read once: what bias gradients, means and global pooling are made of.
//
// x is (outer, m, n). Over rows (n = 1 here, m neighbours) a team adds up a row, or a piece of it where rows are few; over
// columns the threads along x take packs of neighbouring columns and those along y rows, some of the rows to a block. The
// results of pieces are summed by the same kernels once more. Every order depends on the sizes alone.
#include "row.cuh"

// Result k is `scale` times the sum of piece k % pieces, of `each` values, of row k / pieces.
template <class T, class O, class Team>
__global__ void __launch_bounds__(256, 4)
sum_rows(const T* x, O* y, index_t count, index_t n, index_t pieces, index_t each, double scale) {
  using A = acc_t<T>;
  constexpr int VEC = pack_size<T>;
  const place<Team> at(count, 1, 1);
  const piece p(at.row, n, pieces, each);
  share<T, Team, 0, VEC> r(x + p.first, p.size);
  A s = 0;
  r.each([&](A (&v)[VEC], index_t) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) s += v[j];
  });
  s = team_sum<Team>(s);
  if (at.mine && Team::rank() == 0) store(y + at.row, acc_t<O>(s * A(scale)));
}

// y (outer, splits, n): `scale` times the sums of `each` rows. 256 threads, blockDim.x of them, a power of two, along a row.
template <class T, class O, int VEC>
__global__ void __launch_bounds__(256, 4)
sum_columns(const T* __restrict__ x, O* __restrict__ y, index_t m, index_t n, index_t each, double scale) {
  using A = acc_t<T>;
  __shared__ A part[VEC][256];
  const index_t column = (index_t(blockIdx.x) * blockDim.x + threadIdx.x) * VEC;
  const index_t from = blockIdx.y * each, until = from + each < m ? from + each : m;
  A s[VEC] = {};
  if (column < n) {
    x += blockIdx.z * m * n + column;
#pragma unroll 4
    for (index_t i = from + threadIdx.y; i < until; i += blockDim.y) {
      A v[VEC];
      load_pack<VEC>(x + i * n, v);
#pragma unroll
      for (int j = 0; j < VEC; ++j) s[j] += v[j];
    }
  }
  const int t = threadIdx.y * blockDim.x + threadIdx.x;
#pragma unroll
  for (int j = 0; j < VEC; ++j) part[j][t] = s[j];
  for (int half = 128; half >= int(blockDim.x); half /= 2) {
    __syncthreads();
    if (t < half) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) part[j][t] += part[j][t + half];
    }
  }
  if (threadIdx.y == 0 && column < n) {
#pragma unroll
    for (int j = 0; j < VEC; ++j)
      store(y + (index_t(blockIdx.z) * gridDim.y + blockIdx.y) * n + column + j, acc_t<O>(part[j][t] * A(scale)));
  }
}
