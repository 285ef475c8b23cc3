// Batch norm down the columns of an (m, n) matrix in C order: what an array with its channels last is, a column to a channel,
// and planes of a few values side by side, `width` columns to a channel.
//
// Threads along x take packs of neighbouring columns, those along y rows, some of the rows to a block. A block reduces its
// rows to a partial result of each column, which kernels/norm.cu merges in a fixed order; then y or dx is made, what belongs
// to a column being loaded once for all rows of a thread: two reads and a write. A variance is that of differences from the
// mean of a few rows in registers, by the pairwise update of Chan et al. (1979), so nothing cancels.
#include "row.cuh"

namespace columns_ {

// Where a thread stands: its first column, and the rows from, from + every, ... below until.
struct Place {
  index_t column, from, until;
  int every;
  __device__ __forceinline__ Place(int vec, index_t m, index_t each) {
    column = (index_t(blockIdx.x) * blockDim.x + threadIdx.x) * vec;
    from = blockIdx.y * each + threadIdx.y;
    until = (blockIdx.y + 1) * each < m ? (blockIdx.y + 1) * each : m;
    every = blockDim.y;
  }
};

// A number of each of a thread's columns, which p has for every `width` of them; it may be null.
template <int VEC, class W, class A>
__device__ __forceinline__ void fetch(const W* p, index_t column, A otherwise, A (&v)[VEC], index_t width = 1) {
  if (p && width == 1) return load_pack<VEC>(p + column, v);
#pragma unroll
  for (int j = 0; j < VEC; ++j) v[j] = p ? load(p + unsigned(column + j) / unsigned(width)) : otherwise;
}

}  // namespace columns_

// A row of partial means, and of sums of squared differences from them, to each block along y.
template <class T, int VEC>
__global__ void __launch_bounds__(256, 2)
column_moments(const T* __restrict__ x, acc_t<T>* mean, acc_t<T>* square, index_t m, index_t n, index_t each) {
  using A = acc_t<T>;
  constexpr int U = 4;  // rows at a time
  __shared__ A means[VEC][256], squares[VEC][256];
  __shared__ int counts[256];
  const columns_::Place at(VEC, m, each);
  A s[VEC] = {}, q[VEC] = {};
  int count = 0;
  if (at.column < n) {
    for (index_t i = at.from; i < at.until; i += U * at.every) {
      pack<T, VEC> v[U];
      A near[VEC] = {}, far[VEC] = {};
      int k = 0;
#pragma unroll
      for (int u = 0; u < U; ++u)
        if (i + u * at.every < at.until)
          v[u] = *reinterpret_cast<const pack<T, VEC>*>(x + (i + u * at.every) * n + at.column), ++k;
#pragma unroll
      for (int u = 0; u < U; ++u)
#pragma unroll
        for (int j = 0; j < VEC; ++j) near[j] += u < k ? to_acc<T>(v[u].v[j]) : A(0);
      const A inverse = A(1) / A(k), share = A(k) / A(count + k);
#pragma unroll
      for (int j = 0; j < VEC; ++j) near[j] *= inverse;
#pragma unroll
      for (int u = 0; u < U; ++u)
#pragma unroll
        for (int j = 0; j < VEC; ++j) {
          const A d = to_acc<T>(v[u].v[j]) - near[j];
          far[j] += u < k ? d * d : A(0);
        }
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const A d = near[j] - s[j];
        s[j] += d * share;
        q[j] += far[j] + d * d * (A(count) * share);
      }
      count += k;
    }
  }
  const int t = threadIdx.y * blockDim.x + threadIdx.x;
  counts[t] = count;
#pragma unroll
  for (int j = 0; j < VEC; ++j) means[j][t] = s[j], squares[j][t] = q[j];
  for (int half = 128; half >= int(blockDim.x); half /= 2) {
    __syncthreads();
    if (t < half) {
      const int k = counts[t + half], all = counts[t] + k;
      const A share = all ? A(k) / A(all) : A(0);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const A d = means[j][t + half] - means[j][t];
        means[j][t] += d * share;
        squares[j][t] += squares[j][t + half] + d * d * (A(counts[t]) * share);
      }
      counts[t] = all;
    }
  }
  if (threadIdx.y == 0 && at.column < n) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      mean[blockIdx.y * n + at.column + j] = means[j][t];
      square[blockIdx.y * n + at.column + j] = squares[j][t];
    }
  }
}

// A row of partial sums of g and of g xh to each block along y.
template <class T, int VEC>
__global__ void __launch_bounds__(256, 3)
column_sums(const T* __restrict__ g, const T* __restrict__ x, const acc_t<T>* mean, const acc_t<T>* rstd, acc_t<T>* sum_g,
            acc_t<T>* sum_gx, index_t m, index_t n, index_t width, index_t each) {
  using A = acc_t<T>;
  __shared__ A sums[2][VEC][256];
  const columns_::Place at(VEC, m, each);
  A mu[VEC], a[VEC] = {}, c[VEC] = {};
  if (at.column < n) {
    columns_::fetch(mean, at.column, A(0), mu, width);
#pragma unroll 4
    for (index_t i = at.from; i < at.until; i += at.every) {
      A gv[VEC], xv[VEC];
      load_pack<VEC>(g + i * n + at.column, gv);
      load_pack<VEC>(x + i * n + at.column, xv);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        a[j] += gv[j];
        c[j] += gv[j] * (xv[j] - mu[j]);
      }
    }
  }
  const int t = threadIdx.y * blockDim.x + threadIdx.x;
#pragma unroll
  for (int j = 0; j < VEC; ++j) sums[0][j][t] = a[j], sums[1][j][t] = c[j];
  for (int half = 128; half >= int(blockDim.x); half /= 2) {
    __syncthreads();
    if (t < half) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) sums[0][j][t] += sums[0][j][t + half], sums[1][j][t] += sums[1][j][t + half];
    }
  }
  if (threadIdx.y == 0 && at.column < n) {
    columns_::fetch(rstd, at.column, A(1), mu, width);
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      sum_g[blockIdx.y * n + at.column + j] = sums[0][j][t];
      sum_gx[blockIdx.y * n + at.column + j] = sums[1][j][t] * mu[j];
    }
  }
}

// y = (x - mean) rstd w + b, a column to a channel; with eps >= 0 what is given for rstd is a variance.
template <class T, class W, int VEC>
__global__ void __launch_bounds__(256, 4)
column_apply(const T* __restrict__ x, const acc_t<T>* mean, const acc_t<T>* rstd, const W* w, const W* b, T* __restrict__ y,
             index_t m, index_t n, index_t each, double eps) {
  using A = acc_t<T>;
  const columns_::Place at(VEC, m, each);
  if (at.column >= n) return;
  A mu[VEC], r[VEC], scale[VEC], offset[VEC];
  columns_::fetch(mean, at.column, A(0), mu);
  columns_::fetch(rstd, at.column, A(1), r);
  columns_::fetch(w, at.column, A(1), scale);
  columns_::fetch(b, at.column, A(0), offset);
#pragma unroll
  for (int j = 0; j < VEC; ++j) scale[j] *= eps < 0 ? r[j] : reciprocal_root(r[j] + A(eps));
#pragma unroll 4
  for (index_t i = at.from; i < at.until; i += at.every) {
    A v[VEC];
    load_pack<VEC>(x + i * n + at.column, v);
#pragma unroll
    for (int j = 0; j < VEC; ++j) v[j] = (v[j] - mu[j]) * scale[j] + offset[j];
    store_pack<VEC>(y + i * n + at.column, v);
  }
}

// dx from a column's sums of g and g xh, as norm_dx of kernels/norm.cu; gmean and grstd may be null.
template <class T, class W, int VEC>
__global__ void __launch_bounds__(256, 3)
column_dx(const T* __restrict__ g, const T* __restrict__ x, const W* w, const acc_t<T>* mean, const acc_t<T>* rstd,
          const acc_t<T>* gmean, const acc_t<T>* grstd, const acc_t<T>* sum_g, const acc_t<T>* sum_gx, T* __restrict__ dx,
          index_t m, index_t n, index_t each) {
  using A = acc_t<T>;
  const columns_::Place at(VEC, m, each);
  if (at.column >= n) return;
  const A inverse = A(1) / A(m);
  A mu[VEC], r[VEC], scale[VEC], slope[VEC], offset[VEC], more[VEC];
  columns_::fetch(mean, at.column, A(0), mu);
  columns_::fetch(rstd, at.column, A(1), r);
  columns_::fetch(w, at.column, A(1), scale);
  columns_::fetch(sum_gx, at.column, A(0), slope);
  columns_::fetch(grstd, at.column, A(0), more);
#pragma unroll
  for (int j = 0; j < VEC; ++j) slope[j] = (slope[j] * scale[j] + more[j] * r[j]) * inverse * r[j] * r[j], scale[j] *= r[j];
  columns_::fetch(sum_g, at.column, A(0), offset);
  columns_::fetch(gmean, at.column, A(0), more);
#pragma unroll
  for (int j = 0; j < VEC; ++j) offset[j] = (more[j] - offset[j] * scale[j]) * inverse;
#pragma unroll 2
  for (index_t i = at.from; i < at.until; i += at.every) {
    A gv[VEC], xv[VEC];
    load_pack<VEC>(g + i * n + at.column, gv);
    load_pack<VEC>(x + i * n + at.column, xv);
#pragma unroll
    for (int j = 0; j < VEC; ++j) gv[j] = gv[j] * scale[j] - (xv[j] - mu[j]) * slope[j] + offset[j];
    store_pack<VEC>(dx + i * n + at.column, gv);
  }
}
