// A table of many arrays, for kernels that take all the parameters, or gradients, of a model in one launch.
//
// It has a row for each parameter: the addresses of its arrays, its size, and its first block. Every block takes CHUNK
// elements of one parameter, which it finds in the table, so that a thousand small tensors cost one launch and a large one
// is spread over the card.
#pragma once
#include "common.cuh"

constexpr int CHUNK = 8192;    // elements per block; gradflow/cuda/optim.py knows it too
constexpr int THREADS = 256;

// Addresses of the parameter, its gradient, its states, its cells (0-d numbers: the count of steps, rates that follow from
// it) if they are on the card; then how many elements, and the first block.
struct row { index_t p, g, s[3], cell[3], n, first; };

// The row of this block's parameter, without elements if the step is to be skipped. All threads look at once: their loads
// overlap.
__device__ __forceinline__ row my_row(const row* rows, int count, const float* found_inf = nullptr) {
  __shared__ int mine;
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    const index_t first = rows[i].first;
    if (first <= blockIdx.x && blockIdx.x < first + ceil_div(rows[i].n, CHUNK)) mine = i;
  }
  __syncthreads();
  row r = rows[mine];
  if (found_inf && *found_inf != 0) r.n = 0;
  return r;
}

// Where a block's chunk of an array starts. An address out of a table might lie in shared memory for all the compiler
// knows; told that it does not, it loads and stores without looking.
template <class T> __device__ __forceinline__ T* chunk(const row& r, index_t address) {
  return reinterpret_cast<T*>(__cvta_global_to_generic(size_t(address))) + (blockIdx.x - r.first) * CHUNK;
}
__device__ __forceinline__ int chunk_size(const row& r) {
  const index_t left = r.n - (blockIdx.x - r.first) * CHUNK;
  return left < 0 ? 0 : left < CHUNK ? int(left) : CHUNK;
}

// N neighbouring elements: p = f(p, g, s), where f may change its S states s.
template <class T, int S, bool has_g, int N, class F>
__device__ __forceinline__ void neighbours(T* p, const T* g, T* const* s, int i, F f) {
  using A = acc_t<T>;
  using P = pack<T, N>;
  P pv = *reinterpret_cast<const P*>(p + i), gv, sv[S ? S : 1];
  if (has_g) gv = *reinterpret_cast<const P*>(g + i);
#pragma unroll
  for (int k = 0; k < S; ++k) sv[k] = *reinterpret_cast<const P*>(s[k] + i);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    A state[S ? S : 1];
#pragma unroll
    for (int k = 0; k < S; ++k) state[k] = to_acc<T>(sv[k].v[j]);
    pv.v[j] = from_acc<T>(f(to_acc<T>(pv.v[j]), has_g ? to_acc<T>(gv.v[j]) : A(0), state));
#pragma unroll
    for (int k = 0; k < S; ++k) sv[k].v[j] = from_acc<T>(state[k]);
  }
  *reinterpret_cast<P*>(p + i) = pv;
#pragma unroll
  for (int k = 0; k < S; ++k) *reinterpret_cast<P*>(s[k] + i) = sv[k];
}

// Every element of this block's chunk.
template <class T, int S, bool has_g, class F> __device__ __forceinline__ void each(const row& r, F f) {
  constexpr int N = pack_size<T>;
  T* s[S ? S : 1] = {};
  index_t all = r.p | (has_g ? r.g : 0);
#pragma unroll
  for (int k = 0; k < S; ++k) {
    s[k] = chunk<T>(r, r.s[k]);
    all |= r.s[k];
  }
  T* p = chunk<T>(r, r.p);
  const T* g = has_g ? chunk<T>(r, r.g) : nullptr;
  const int n = chunk_size(r), packed = all % 16 ? 0 : n / N * N;
  for (int i = threadIdx.x * N; i < packed; i += THREADS * N) neighbours<T, S, has_g, N>(p, g, s, i, f);
  for (int i = packed + threadIdx.x; i < n; i += THREADS) neighbours<T, S, has_g, 1>(p, g, s, i, f);
}
