// The product of two matrices that are never laid out, left (m x k) times right (k x n), as convolutions use it.
//
// A block makes an m x n tile of the product, a thread tm x tn numbers of it. Step by step, k columns of left and k
// rows of right are fetched into registers by loaders, which know the convolution, and put into shared memory, where
// multiply(), which does not, takes them up while the next step's are on their way. Sums run over k in order, so a
// result depends on nothing but its operands.
#pragma once
#include "common.cuh"

namespace conv_ {

template <int M, int N, int K, int TM, int TN> struct Tile {
  static constexpr int m = M, n = N, k = K, tm = TM, tn = TN;
  static constexpr int threads = (M / TM) * (N / TN);
  static constexpr int blocks = TM * TN > 32 ? 1 : 2;  // at a time on a multiprocessor, at least: what registers allow
  static constexpr int left = M * K / threads, right = N * K / threads;  // what a thread fetches for a step
};

constexpr int V = 4;  // neighbours in a thread's part of the tile, which it reads from shared memory at once

// The i-th row of a thread's part, of `per` rows, in a tile of `size`: V neighbours here, V neighbours further on.
template <int size, int per> __device__ __forceinline__ int spread(int t, int i) {
  return i / V * (size / (per / V)) + t * V + i % V;
}

// ---- geometry -------------------------------------------------------------------------------------------------------

// Along one dim, position u sees place u * stride + base + t * step of the source through tap t, if that is inside.
struct Axis { int size, positions, taps, stride, base, step; };

// The parameters of a kernel for one dim, since a launch passes no structs, and the forward Axis.
#define DIM(a) int a##_size, int a##_taps, int a##_out, int a##_stride, int a##_before, int a##_dilation
#define FORWARD(a) conv_::Axis{a##_size, a##_out, a##_taps, a##_stride, -a##_before, a##_dilation}

// Of the inputs phase, phase + stride, ...: what sees them, through the taps `tap`, tap + every, ...
struct Phase { Axis axis; int tap, every; };

__device__ inline Phase phase_of(int phase, int size, int taps, int out, int stride, int before, int dilation) {
  Phase p;
  const int place = phase + before;  // in the padded input: tap i sees it if stride divides place - i * dilation
  int count = 0;
  p.tap = p.every = 0;
  for (int i = 0; i < taps; ++i)
    if ((place - i * dilation) % stride == 0) {
      if (count == 0) p.tap = i;
      if (count == 1) p.every = i - p.tap;
      ++count;
    }
  const int positions = size > phase ? (size - phase + stride - 1) / stride : 0;
  p.axis = {out, positions, count, 1, (place - p.tap * dilation) / stride, -(p.every * dilation) / stride};
  return p;
}

// A number of three digits that counts in steps worked out beforehand: addition with carry instead of division.
struct Counter {
  int a, b, c;
  __device__ __forceinline__ Counter(int number, int nb, int nc) {
    if (nb == 0) nb = 1;  // a phase that no tap sees: nothing will be counted
    if (nc == 0) nc = 1;
    c = number % nc;
    number /= nc;
    b = number % nb;
    a = number / nb;
  }
  __device__ __forceinline__ void next(int nb, int nc) {
    if (++c == nc) {
      c = 0;
      if (++b == nb) b = 0, ++a;
    }
  }
  __device__ __forceinline__ void add(const Counter& d, int nb, int nc) {
    c += d.c;
    if (c >= nc) c -= nc, ++b;
    b += d.b;
    if (b >= nb) b -= nb, ++a;
    a += d.a;
  }
};

// ---- loaders --------------------------------------------------------------------------------------------------------
// fetch() reads a thread's share of a step and goes on to the next; put() stores it in shared memory.

// left: a matrix in memory, `rows` rows of `columns`. A thread reads neighbours of one row.
template <class T, class S> struct Rows {
  using R = acc_t<T>;
  static constexpr int lanes = S::k / S::left;
  const T* row;
  int at, columns, m;

  __device__ Rows(const T* w, int first, int rows, int columns) : columns(columns) {
    m = threadIdx.x / lanes;
    at = threadIdx.x % lanes * S::left;
    row = first + m < rows ? w + index_t(first + m) * columns : nullptr;
  }
  __device__ __forceinline__ void fetch(R (&r)[S::left]) {
#pragma unroll
    for (int e = 0; e < S::left; ++e) r[e] = row && at + e < columns ? load(row + at + e) : R(0);
    at += S::k;
  }
  __device__ __forceinline__ void put(R (*tile)[S::m + V], const R (&r)[S::left]) const {
#pragma unroll
    for (int e = 0; e < S::left; ++e) tile[threadIdx.x % lanes * S::left + e][m] = r[e];
  }
};

// left of the weight gradient: row k, column position (n, oh, ow). A thread reads one position of several channels.
template <class T, class S> struct Gradients {
  using R = acc_t<T>;
  static constexpr int apart = S::threads / S::k;  // rows between a thread's rows
  const T* g;
  int rows, plane, o, step, q, m;
  index_t images, position, end, next_image;

  __device__ Gradients(const T* start, index_t images, int first, int rows, int plane, index_t begin, index_t end)
      : rows(rows - first), plane(plane), images(images), end(end) {
    q = threadIdx.x % S::k;
    m = threadIdx.x / S::k;
    position = begin + q;
    o = int(position % plane);
    step = S::k % plane;
    next_image = S::k / plane * images;
    g = start + position / plane * images + index_t(first + m) * plane;
  }
  __device__ __forceinline__ void fetch(R (&r)[S::left]) {
#pragma unroll
    for (int e = 0; e < S::left; ++e)
      r[e] = position < end && m + e * apart < rows ? load(g + index_t(e) * apart * plane + o) : R(0);
    position += S::k;
    o += step;
    g += next_image;
    if (o >= plane) o -= plane, g += images;
  }
  __device__ __forceinline__ void put(R (*tile)[S::m + V], const R (&r)[S::left]) const {
#pragma unroll
    for (int e = 0; e < S::left; ++e) tile[q][m + e * apart] = r[e];
  }
};

// ---- the product ----------------------------------------------------------------------------------------------------

// sum += left times right, over `steps` steps of the loaders a and b.
template <class S, class R, class A, class B>
__device__ __forceinline__ void multiply(A& a, B& b, int steps, R (&sum)[S::tm][S::tn]) {
  using P = pack<R, V>;
  __shared__ alignas(sizeof(P)) R left[2][S::k][S::m + V], right[2][S::k][S::n + V];
  const int tm = threadIdx.x / (S::n / S::tn), tn = threadIdx.x % (S::n / S::tn);
  R ra[S::left], rb[S::right];
#pragma unroll
  for (int i = 0; i < S::tm; ++i)
#pragma unroll
    for (int j = 0; j < S::tn; ++j) sum[i][j] = R(0);
  if (steps > 0) {
    a.fetch(ra);
    b.fetch(rb);
    a.put(left[0], ra);
    b.put(right[0], rb);
  }
  __syncthreads();
  for (int s = 0; s < steps; ++s) {
    if (s + 1 < steps) {
      a.fetch(ra);
      b.fetch(rb);
    }
#pragma unroll
    for (int k = 0; k < S::k; ++k) {
      P l[S::tm / V], r[S::tn / V];
#pragma unroll
      for (int i = 0; i < S::tm; i += V)
        l[i / V] = *reinterpret_cast<const P*>(&left[s % 2][k][spread<S::m, S::tm>(tm, i)]);
#pragma unroll
      for (int j = 0; j < S::tn; j += V)
        r[j / V] = *reinterpret_cast<const P*>(&right[s % 2][k][spread<S::n, S::tn>(tn, j)]);
#pragma unroll
      for (int i = 0; i < S::tm; ++i)
#pragma unroll
        for (int j = 0; j < S::tn; ++j) sum[i][j] += l[i / V].v[i % V] * r[j / V].v[j % V];
    }
    if (s + 1 < steps) {
      a.put(left[(s + 1) % 2], ra);
      b.put(right[(s + 1) % 2], rb);
    }
    __syncthreads();  // the buffer just read is the next one written
  }
}

// Each thread's sums to out[row * apart + place[column]], with b[row] added if there is a b; no place is -1.
template <class S, class T>
__device__ __forceinline__ void write(const acc_t<T> (&sum)[S::tm][S::tn], T* out, const T* b, int first, int rows,
                                      index_t apart, const index_t* place) {
  const int tm = threadIdx.x / (S::n / S::tn), tn = threadIdx.x % (S::n / S::tn);
#pragma unroll
  for (int i = 0; i < S::tm; ++i) {
    const int row = first + spread<S::m, S::tm>(tm, i);
    if (row >= rows) continue;
    const acc_t<T> add = b ? load(b + row) : acc_t<T>(0);
#pragma unroll
    for (int j = 0; j < S::tn; ++j) {
      const index_t at = place[spread<S::n, S::tn>(tn, j)];
      if (at >= 0) store(out + row * apart + at, sum[i][j] + add);
    }
  }
}

}  // namespace conv_

