// Kernels that move known bytes, for the test of the stand-in's counts.
#include <cuda_fp16.h>

template <class T, int N> struct alignas(sizeof(T) * N) pack { T v[N]; };

template <class T> __global__ void strided(const T* x, T* y, int stride) { y[threadIdx.x] = x[threadIdx.x * stride]; }

template <class T> __global__ void packs(const T* x, T* y) {
  constexpr int N = 16 / sizeof(T);
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  pack<T, N> p = reinterpret_cast<const pack<T, N>*>(x)[i];
  for (int k = 0; k < N; ++k) p.v[k] = T(float(p.v[k]) * 2.0f + float(p.v[0]));
  reinterpret_cast<pack<T, N>*>(y)[i] = p;
}

// cp.async is assembly on a card; here only its host version is asked for.
__global__ void copied(const float* x, float* y) {
  __shared__ alignas(16) float s[128];
  card::copy_async(s + 4 * threadIdx.x, x + 4 * threadIdx.x, 16);
  card::copy_commit();
  card::copy_wait(0);
  y[threadIdx.x] = s[threadIdx.x];
}

__global__ void atomics(const float* x, float* y) { atomicAdd(y, 1.0f); }

__global__ void looped(const float* x, float* y) {
  float sum = 0;
#pragma GCC unroll 0
  for (int i = threadIdx.x; i < 100; i += 32) sum += x[i];
  y[threadIdx.x] = sum;
}

template <class T, int W> __global__ void column(const T* x, T* y) {
  __shared__ T s[32 * W];
  s[threadIdx.x] = T(0);
  __syncthreads();
  if (s[threadIdx.x * W] == T(1)) y[0] = T(1);
}

__global__ void broadcast(const float* x, float* y) {
  __shared__ float s[32];
  if (s[0] == 1.0f) y[0] = 1.0f;
}

// What ldmatrix .x4 reads: 4 matrices of 8 rows of 16 bytes, rows W numbers of 2 bytes apart.
template <int W> __global__ void matrices(const float* x, float* y) {
  __shared__ unsigned short s[32 * W];
  struct Call { const unsigned short* row; unsigned r; } mine{s + threadIdx.x * W, 0};
  card::warp_call<Call>(&mine, [](Call* const* lanes) {
    for (int i = 0; i < 4; ++i)
      for (int l = 0; l < 32; ++l)
        for (int e = 0; e < 2; ++e) lanes[l]->r += lanes[8 * i + l / 4]->row[l % 4 * 2 + e];
  });
  if (mine.r == 1) y[0] = 1;
}
