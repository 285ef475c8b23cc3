// Rows: a team of threads owns one row of n values and keeps its share of them in registers where they fit.
//
// An algorithm on rows is written once, as passes over "my values" and reductions over the team, and then runs for short
// rows (8 lanes each), for long ones (a block each), for rows too long for registers (E = 0: every pass reads memory
// again) and for rows whose values are `inner` apart (columns: neighbouring threads take neighbouring rows, so that loads
// stay coalesced). Teams whose row does not exist work on the last one and store nothing: shuffles need every lane.
#pragma once
#include "common.cuh"

// SIZE threads along x; below 256 a block has several teams along y.
template <int SIZE> struct lanes {
  static constexpr int size = SIZE, threads = SIZE < 256 ? 256 : SIZE, teams = threads / SIZE;
  static __device__ __forceinline__ int rank() { return threadIdx.x; }
  static __device__ __forceinline__ index_t row() { return index_t(blockIdx.x) * teams + threadIdx.y; }
  template <class A, class Op> static __device__ __forceinline__ A reduce(A v, Op op, A identity) {
    if constexpr (SIZE > 32) {
      return block_reduce(v, op, identity);
    } else {
#pragma unroll
      for (int d = SIZE / 2; d > 0; d /= 2) v = op(v, __shfl_xor_sync(0xffffffffu, v, d));
      return v;
    }
  }
};

// Y threads along y to a row, and 32 rows to a block along x.
template <int Y> struct columns {
  static constexpr int size = Y, threads = 32 * Y, teams = 32;
  static __device__ __forceinline__ int rank() { return threadIdx.y; }
  static __device__ __forceinline__ index_t row() { return index_t(blockIdx.x) * 32 + threadIdx.x; }
  template <class A, class Op> static __device__ __forceinline__ A reduce(A v, Op op, A) {
    __shared__ A part[Y][32];
    __syncthreads();  // the reads of an earlier call are over
    part[threadIdx.y][threadIdx.x] = v;
    __syncthreads();
    v = part[0][threadIdx.x];
#pragma unroll
    for (int i = 1; i < Y; ++i) v = op(v, part[i][threadIdx.x]);
    return v;
  }
};

template <class Team, class A> __device__ __forceinline__ A team_sum(A v) { return Team::reduce(v, sum_of(), A(0)); }
template <class Team, class A> __device__ __forceinline__ A team_max(A v) {
  return Team::reduce(v, max_of(), A(-infinity<A>()));
}

// VEC neighbouring values as accumulators, in loads of up to 16 bytes; the address is a multiple of those.
template <int VEC, class T> __device__ __forceinline__ void load_pack(const T* p, acc_t<T> (&v)[VEC]) {
  constexpr int N = VEC < pack_size<T> ? VEC : pack_size<T>;
#pragma unroll
  for (int k = 0; k < VEC; k += N) {
    const pack<T, N> q = *reinterpret_cast<const pack<T, N>*>(p + k);
#pragma unroll
    for (int j = 0; j < N; ++j) v[k + j] = to_acc<T>(q.v[j]);
  }
}
template <int VEC, class T> __device__ __forceinline__ void store_pack(T* p, const acc_t<T> (&v)[VEC]) {
  pack<T, VEC> q;
#pragma unroll
  for (int j = 0; j < VEC; ++j) q.v[j] = from_acc<T>(v[j]);
  *reinterpret_cast<pack<T, VEC>*>(p) = q;
}

// The row of this thread's team among `rows`, whether it exists, and where its first value stands. Rows and inner are
// below 2^31, since a division of 64-bit numbers is a call; the number of values may be larger.
template <class Team> struct place {
  index_t row, first;
  bool mine;
  __device__ __forceinline__ place(index_t rows, index_t n, index_t inner) {
    row = Team::row();
    mine = row < rows;
    if (!mine) row = rows - 1;
    first = row * n;
    if (inner != 1) first = (unsigned(row) / unsigned(inner)) * n * inner + unsigned(row) % unsigned(inner);
  }
};

// This thread's share of a row: packs of VEC values, E values in all, or as many as there are if E = 0.
template <class T, class Team, int E, int VEC> struct share {
  using A = acc_t<T>;
  static constexpr int K = E / VEC, UNROLL = sizeof(A) == 8 ? 1 : 4;
  static constexpr bool kept = E > 0;  // in registers, so that what a pass writes is there in the next
  const T* p;
  index_t n, step;
  A v[K ? K : 1][VEC];

  // The n values at p, p + step, ...; a step other than 1 needs E = 0 and VEC = 1.
  __device__ __forceinline__ share(const T* p, index_t n, index_t step = 1) : p(p), n(n), step(step) {
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (has(k)) load_pack<VEC>(p + at(k), v[k]);
  }

  // The k-th pack in registers: its place in the row, and whether the row reaches it.
  static __device__ __forceinline__ int at(int k) { return Team::rank() * VEC + k * (Team::size * VEC); }
  __device__ __forceinline__ bool has(int k) const { return k * (Team::size * VEC) < int(n) - Team::rank() * VEC; }

  // How far from the row's first value the i-th one is.
  __device__ __forceinline__ index_t offset(index_t i) const { return kept ? i : i * step; }

  // f(values, place in the row) for every pack.
  template <class F> __device__ __forceinline__ void each(F f) {
    if constexpr (kept) {
#pragma unroll
      for (int k = 0; k < K; ++k)
        if (has(k)) f(v[k], at(k));
    } else {
#pragma unroll UNROLL
      for (index_t i = Team::rank() * VEC; i < n; i += Team::size * VEC) {
        load_pack<VEC>(p + i * step, v[0]);
        f(v[0], i);
      }
    }
  }

  // f(values, values of other, place) for every pack of two rows of one length and step.
  template <class Other, class F> __device__ __forceinline__ void each(Other& other, F f) {
    if constexpr (kept) {
#pragma unroll
      for (int k = 0; k < K; ++k)
        if (has(k)) f(v[k], other.v[k], at(k));
    } else {
#pragma unroll UNROLL
      for (index_t i = Team::rank() * VEC; i < n; i += Team::size * VEC) {
        load_pack<VEC>(p + i * step, v[0]);
        load_pack<VEC>(other.p + i * step, other.v[0]);
        f(v[0], other.v[0], i);
      }
    }
  }
};
