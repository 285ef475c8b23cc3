// Kernels for tests/test_launch.py: what the launcher and common.cuh promise, observed from inside.
#include "common.cuh"

__global__ void scalars(double* y, long long i, float f, double d, bool b, const float* nothing) {
  y[0] = double(i);
  y[1] = f;
  y[2] = d;
  y[3] = b;
  y[4] = nothing == nullptr;
}

// Sum, maximum and minimum over a block, twice in a row so that a missing barrier between two reductions shows.
template <class T> __global__ void reductions(const T* x, T* y) {
  const acc_t<T> v = load(x + block_thread());
  const acc_t<T> sum = block_sum(v), most = block_max(v);
  const acc_t<T> least = block_reduce(v, min_of(), infinity<acc_t<T>>()), again = block_sum(most);
  T* mine = y + 5 * block_thread();
  store(mine, sum);
  store(mine + 1, most);
  store(mine + 2, least);
  store(mine + 3, again);
  store(mine + 4, warp_sum(v));
}

template <class T> __global__ void copy(const T* x, T* y, index_t n) {
  for (index_t i = grid_thread(); i < n; i += grid_threads()) store(y + i, load(x + i));
}

template <class T> __global__ void packs(const T* x, T* y) {
  using P = pack<T, pack_size<T>>;
  static_assert(sizeof(P) == 16, "a pack is what one instruction moves");
  reinterpret_cast<P*>(y)[threadIdx.x] = reinterpret_cast<const P*>(x)[threadIdx.x];
}

__global__ void reverse(const int* x, int* y) {  // through dynamic shared memory
  extern __shared__ int held[];
  held[threadIdx.x * 64] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = held[(blockDim.x - 1 - threadIdx.x) * 64];
}

__global__ void past_the_end(float* y, index_t n) { y[n + threadIdx.x] = 1; }
__global__ void leaves_a_gap(float* y, index_t n) {
  if (threadIdx.x + 1 < n) y[threadIdx.x] = 1;
}
