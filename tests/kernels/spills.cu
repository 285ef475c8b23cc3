// Kernels for tests/test_compile.py: one that wants many registers, one with shared memory.

__global__ void hungry(const float* x, float* y) {
  float v[64];
  for (int i = 0; i < 64; ++i) v[i] = x[i * 32 + threadIdx.x];
  for (int i = 0; i < 64; ++i) y[i * 32 + threadIdx.x] = v[i] * v[63 - i] + v[(i * 7) % 64];
}

__global__ void shared(float* y) {
  __shared__ float s[300];
  s[threadIdx.x] = y[threadIdx.x];
  __syncthreads();
  *y = s[1];
}
