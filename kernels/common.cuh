// What every kernel uses: the accumulation type, conversions, reductions in a fixed order, 16-byte loads.
//
// Kernels are templates over the storage type T (float, double, __half, __nv_bfloat16); they load and store T and
// compute in acc_t<T>. Every reduction here adds in an order that depends on the block size alone: same inputs, same bits.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

using index_t = long long;  // sizes may pass 2^31

template <class T> struct acc { using type = T; };
template <> struct acc<__half> { using type = float; };
template <> struct acc<__nv_bfloat16> { using type = float; };
template <class T> using acc_t = typename acc<T>::type;

// ---- conversions between storage and accumulation ---------------------------------------------------------------------

template <class T> __device__ __forceinline__ acc_t<T> to_acc(T x) { return x; }
template <> __device__ __forceinline__ float to_acc<__half>(__half x) { return __half2float(x); }
template <> __device__ __forceinline__ float to_acc<__nv_bfloat16>(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T> __device__ __forceinline__ T from_acc(acc_t<T> a) { return a; }
template <> __device__ __forceinline__ __half from_acc<__half>(float a) { return __float2half_rn(a); }
template <> __device__ __forceinline__ __nv_bfloat16 from_acc<__nv_bfloat16>(float a) { return __float2bfloat16_rn(a); }

template <class T> __device__ __forceinline__ acc_t<T> load(const T* p) { return to_acc<T>(*p); }
template <class T> __device__ __forceinline__ void store(T* p, acc_t<T> a) { *p = from_acc<T>(a); }

// N values moved by one instruction (16 bytes at most); the address must be a multiple of the size.
template <class T, int N> struct alignas(sizeof(T) * N) pack { T v[N]; };
template <class T> constexpr int pack_size = 16 / sizeof(T);

// ---- numbers ----------------------------------------------------------------------------------------------------------

__host__ __device__ constexpr index_t ceil_div(index_t a, index_t b) { return (a + b - 1) / b; }

template <class T> __device__ __forceinline__ T infinity() { return T(__int_as_float(0x7f800000)); }
template <class T> __device__ __forceinline__ T not_a_number() { return T(__int_as_float(0x7fc00000)); }

template <class A> __device__ __forceinline__ A reciprocal_root(A v) { return A(1) / A(::sqrt(v)); }

// The larger, and NaN if one is: the built-in fmax drops NaN.
template <class T> __device__ __forceinline__ T nan_max(T a, T b) { return a > b || a != a ? a : b; }
template <class T> __device__ __forceinline__ T nan_min(T a, T b) { return a < b || a != a ? a : b; }

// ---- the place of a thread --------------------------------------------------------------------------------------------

// for (index_t i = grid_thread(); i < n; i += grid_threads()): each element once, whatever the grid.
__device__ __forceinline__ index_t grid_thread() { return index_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ index_t grid_threads() { return index_t(gridDim.x) * blockDim.x; }

__device__ __forceinline__ int block_thread() {
  return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
}
__device__ __forceinline__ int block_threads() { return blockDim.x * blockDim.y * blockDim.z; }

// ---- reductions -------------------------------------------------------------------------------------------------------

struct sum_of { template <class T> __device__ T operator()(T a, T b) const { return a + b; } };
struct max_of { template <class T> __device__ T operator()(T a, T b) const { return nan_max(a, b); } };
struct min_of { template <class T> __device__ T operator()(T a, T b) const { return nan_min(a, b); } };

// Over the 32 lanes of a warp, all of which must call it; every lane gets the result.
template <class T, class Op> __device__ __forceinline__ T warp_reduce(T v, Op op) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v = op(v, __shfl_xor_sync(0xffffffffu, v, d));
  return v;
}
template <class T> __device__ __forceinline__ T warp_sum(T v) { return warp_reduce(v, sum_of()); }

// Over all threads of a block, of whole warps, all of which must call it; every thread gets the result.
template <class T, class Op> __device__ T block_reduce(T v, Op op, T identity) {
  __shared__ T part[32];
  const int t = block_thread(), warps = block_threads() / 32;
  v = warp_reduce(v, op);
  if (warps == 1) return v;
  __syncthreads();  // the reads of an earlier call are over
  if (t % 32 == 0) part[t / 32] = v;
  __syncthreads();
  return warp_reduce(t % 32 < warps ? part[t % 32] : identity, op);
}
template <class T> __device__ __forceinline__ T block_sum(T v) { return block_reduce(v, sum_of(), T(0)); }
template <class T> __device__ __forceinline__ T block_max(T v) { return block_reduce(v, max_of(), T(-infinity<T>())); }
