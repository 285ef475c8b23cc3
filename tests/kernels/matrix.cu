// Kernels for tests/test_mma.py: what mma.cuh promises, observed from inside.
#include "mma.cuh"

// One product d = a b of a (16 x k), b (k x 8), d (16 x 8), row by row in memory, by the ways a kernel goes: copied to
// shared memory without waiting, read as matrices, b transposed on the way (16-bit numbers) or by single words (float).
template <class T> __global__ void product(const T* a, const T* b, float* d) {
  constexpr int depth = mma_depth<T>, row = 16 / sizeof(T);
  __shared__ alignas(16) T left[16][depth], right[depth][8];
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  for (int i = lane; i < 16 * depth / row; i += 32) copy_async<16>(&left[0][0] + i * row, a + i * row);
  for (int i = lane; i < depth * 8 / row; i += 32) copy_async<16>(&right[0][0] + i * row, b + i * row);
  copy_commit();
  copy_wait<0>();
  __syncthreads();
  unsigned l[4], r[2];
  load_matrices(l, &left[lane % 8 + lane / 8 % 2 * 8][lane / 16 * (depth / 2)]);
  if constexpr (sizeof(T) == 2) {
    load_matrices<true>(r, &right[lane % 16][0]);
  } else {
    for (unsigned& word : l) word = to_tf32(__uint_as_float(word));
    r[0] = to_tf32(right[t][g]);
    r[1] = to_tf32(right[t + 4][g]);
  }
  float sum[4] = {};
  mma<T>(sum, l, r);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

// copy_async of each size, of which the lanes from `live` on copy zeros.
template <int BYTES> __global__ void copies(const float* x, float* y, int live) {
  constexpr int n = BYTES / 4;
  __shared__ alignas(16) float held[32 * n];
  copy_async<BYTES>(held + threadIdx.x * n, threadIdx.x < live ? x + threadIdx.x * n : x, threadIdx.x < live);
  copy_commit();
  copy_wait<0>();
  __syncthreads();
  for (int i = 0; i < n; ++i) y[threadIdx.x * n + i] = held[threadIdx.x * n + i];
}

template <class T> __global__ void pairs(const float* x, unsigned* y) { y[0] = to_pair<T>(x[0], x[1]); }
__global__ void shortened(const float* x, float* y) { y[threadIdx.x] = __uint_as_float(to_tf32(x[threadIdx.x])); }

// Matrices of numbers that name themselves, as each lane gets them.
template <int N, bool TRANSPOSED> __global__ void matrices(unsigned short* y) {
  __shared__ alignas(16) unsigned short held[8 * N][8];
  for (int i = threadIdx.x; i < 64 * N; i += 32) held[i / 8][i % 8] = i;
  __syncthreads();
  unsigned r[N];
  load_matrices<TRANSPOSED>(r, &held[threadIdx.x % (8 * N)][0]);
  for (int i = 0; i < N; ++i) {
    y[(threadIdx.x * N + i) * 2] = r[i] & 0xffff;
    y[(threadIdx.x * N + i) * 2 + 1] = r[i] >> 16;
  }
}
