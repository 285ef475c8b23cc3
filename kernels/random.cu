// Random arrays and dropout. A thread makes one block of the stream and all the values that come from it, so that the
// result depends on (key, counter) alone and not on the grid.
//
// `replay` is null but in a captured graph, which draws anew at each replay: see random.cuh.
#include "random.cuh"

// Write the first values of a block to y[N b ..], as one piece where there is room.
template <class T, int N> __device__ __forceinline__ void put(T* y, index_t n, index_t b, const pack<T, N>& v) {
  constexpr int P = N < pack_size<T> ? N : pack_size<T>;
  if (N * b + N <= n) {
#pragma unroll
    for (int k = 0; k < N; k += P)
      reinterpret_cast<pack<T, P>*>(y + N * b)[k / P] = *reinterpret_cast<const pack<T, P>*>(v.v + k);
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k)
      if (N * b + k < n) y[N * b + k] = v.v[k];
  }
}

__global__ void __launch_bounds__(256) words(word* y, index_t n, word key, word counter, const word* replay) {
  const index_t b = grid_thread();
  if (4 * b >= n) return;
  const random_block r = draw(key, counter, replay, b);
  put(y, n, b, pack<word, 4>{{r.w[0], r.w[1], r.w[2], r.w[3]}});
}

template <class T> __global__ void __launch_bounds__(256) uniform(T* y, index_t n, word key, word counter, const word* replay) {
  constexpr int N = random_of<T>::count;
  const index_t b = grid_thread();
  if (N * b >= n) return;
  const random_block r = draw(key, counter, replay, b);
  pack<T, N> v;
#pragma unroll
  for (int k = 0; k < N; ++k) v.v[k] = from_acc<T>(random_of<T>::uniform(r, k));
  put(y, n, b, v);
}

template <class T> __global__ void __launch_bounds__(256) normal(T* y, index_t n, word key, word counter, const word* replay) {
  constexpr int N = random_of<T>::count;
  const index_t b = grid_thread();
  if (N * b >= n) return;
  const random_block r = draw(key, counter, replay, b);
  pack<T, N> v;
#pragma unroll
  for (int k = 0; k < N; k += 2) {
    acc_t<T> z0, z1;
    random_of<T>::normals(r, k / 2, z0, z1);
    v.v[k] = from_acc<T>(z0);
    v.v[k + 1] = from_acc<T>(z1);
  }
  put(y, n, b, v);
}

// y[i] = x[i] scale where half i of the stream is at least `limit` (which may be 2^32: none), else x[i] 0.
// P values per load: 16 bytes where x and y are aligned, else 1.
template <class T, int P> __global__ void __launch_bounds__(256)
dropout(const T* __restrict__ x, T* __restrict__ y, index_t n, word limit, acc_t<T> scale, word key, word counter,
        const word* replay) {
  constexpr int PACKS = 8 / P;
  const int lane = threadIdx.x % 32;
  const index_t b = grid_thread(), first = b - lane;
  if (8 * first >= n) return;  // none of the warp
  const random_block r = draw(key, counter, replay, b);
  unsigned kept = 0;
#pragma unroll
  for (int j = 0; j < 8; ++j) kept |= unsigned(r.half(j) >= limit) << j;
#pragma unroll
  for (int k = 0; k < PACKS; ++k) {  // neighbouring lanes take neighbouring packs, and the bits from the lane that drew them
    const int p = k * 32 + lane;
    const unsigned mine = __shfl_sync(0xffffffffu, kept, p / PACKS) >> p % PACKS * P;
    const index_t i = 8 * first + p * P;
    if (i + P <= n) {
      pack<T, P> v = *reinterpret_cast<const pack<T, P>*>(x + i);
#pragma unroll
      for (int j = 0; j < P; ++j) v.v[j] = from_acc<T>(to_acc(v.v[j]) * (mine >> j & 1 ? scale : acc_t<T>(0)));
      *reinterpret_cast<pack<T, P>*>(y + i) = v;
    } else {
#pragma unroll
      for (int j = 0; j < P; ++j)
        if (i + j < n) store(y + i + j, load(x + i + j) * (mine >> j & 1 ? scale : acc_t<T>(0)));
    }
  }
}
