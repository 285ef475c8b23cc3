// Elementwise functions of contiguous arrays: y[i] = f(in[i] ...).
//
// An input is an array (const T*) or a number of the type that f computes in. A thread reads U packs of N values from each
// array, a block apart so that neighbours in a warp read neighbours in memory, before it computes: 16 bytes per load and
// several loads in flight. The template arguments are R, the type of y; N; U; f; and the types of the inputs.
// "256, 1": left to itself ptxas spills registers of the double kernels for occupancy that a memory-bound kernel has anyway.
#include "common.cuh"
#include "pointwise.cuh"

namespace pointwise_ {
template <class T, int N, int U> struct chunk { pack<T, N> v[U]; };

// What a thread holds of an input, and one value of it.
template <int N, int U, class T> __device__ __forceinline__ chunk<T, N, U> fetch(const T* p, index_t at, index_t packs) {
  chunk<T, N, U> c;
#pragma unroll
  for (int u = 0; u < U; ++u)
    if (at + u * int(blockDim.x) < packs) c.v[u] = reinterpret_cast<const pack<T, N>*>(p)[at + u * int(blockDim.x)];
  return c;
}
template <int N, int U> __device__ __forceinline__ float fetch(float number, index_t, index_t) { return number; }
template <int N, int U> __device__ __forceinline__ double fetch(double number, index_t, index_t) { return number; }

template <class T, int N, int U> __device__ __forceinline__ acc_t<T> value(const chunk<T, N, U>& c, int u, int k) {
  return to_acc<T>(c.v[u].v[k]);
}
__device__ __forceinline__ float value(float number, int, int) { return number; }
__device__ __forceinline__ double value(double number, int, int) { return number; }

template <class T> __device__ __forceinline__ acc_t<T> single(const T* p, index_t i) { return load(p + i); }
__device__ __forceinline__ float single(float number, index_t) { return number; }
__device__ __forceinline__ double single(double number, index_t) { return number; }

template <class R, int N, int U, auto f, class... C>
__device__ __forceinline__ void apply(R* y, index_t at, index_t packs, const C&... in) {
#pragma unroll
  for (int u = 0; u < U; ++u) {
    pack<R, N> v;
#pragma unroll
    for (int k = 0; k < N; ++k) v.v[k] = from_acc<R>(f(value(in, u, k)...));
    if (at + u * int(blockDim.x) < packs) reinterpret_cast<pack<R, N>*>(y)[at + u * int(blockDim.x)] = v;
  }
}
}  // namespace pointwise_

template <class R, int N, int U, auto f, class... In>
__global__ void __launch_bounds__(256, 1) pointwise(R* y, index_t n, In... in) {
  using namespace pointwise_;
  const index_t packs = n / N, at = index_t(blockIdx.x) * (U * blockDim.x) + threadIdx.x;
  if (at < packs) apply<R, N, U, f>(y, at, packs, fetch<N, U>(in, at, packs)...);
  if (blockIdx.x == 0) {  // the rest, fewer than N
    const index_t i = packs * N + threadIdx.x;
    if (i < n) y[i] = from_acc<R>(f(single(in, i)...));
  }
}

// y = f(a, b) where one array is y's shape and the other repeats: value i of y takes value (i / inner) % period of it. A bias
// of columns has inner 1, one of channels their size, a mean of each row the row's length. n is below 2^31: a division of
// 32-bit numbers a pack.
template <class R, class T, int N, auto f, bool FIRST>
__global__ void __launch_bounds__(256, 1)
pointwise_repeated(R* __restrict__ y, index_t n, const T* __restrict__ whole, const T* __restrict__ part, int inner, int period) {
  constexpr int U = 2;
  using A = acc_t<T>;
  const unsigned each = inner, last = unsigned(n), first = (blockIdx.x * (U * 256u) + threadIdx.x) * N;
  pack<T, N> v[U], w[U];
#pragma unroll
  for (int u = 0; u < U; ++u) {
    const unsigned i = first + u * (256u * N);
    if (i + N <= last) {
      v[u] = *reinterpret_cast<const pack<T, N>*>(whole + i);
    } else {
#pragma unroll
      for (int j = 0; j < N; ++j)
        if (i + j < last) v[u].v[j] = whole[i + j];
    }
  }
#pragma unroll
  for (int u = 0; u < U; ++u) {
    const unsigned i = first + u * (256u * N);
    if (i >= last) continue;
    unsigned q = i / each, r = i - q * each, c = q % unsigned(period);
    if (each == 1 && period % N == 0) {
      w[u] = *reinterpret_cast<const pack<T, N>*>(part + c);
    } else {
#pragma unroll
      for (int j = 0; j < N; ++j) {
        w[u].v[j] = part[c];
        if (++r == each) r = 0, c = c + 1 == unsigned(period) ? 0 : c + 1;
      }
    }
  }
#pragma unroll
  for (int u = 0; u < U; ++u) {
    const unsigned i = first + u * (256u * N);
    pack<R, N> out;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const A a = to_acc<T>(v[u].v[j]), b = to_acc<T>(w[u].v[j]);
      out.v[j] = from_acc<R>(FIRST ? f(b, a) : f(a, b));
    }
    if (i + N <= last) {
      *reinterpret_cast<pack<R, N>*>(y + i) = out;
    } else {
#pragma unroll
      for (int j = 0; j < N; ++j)
        if (i + j < last) y[i + j] = out.v[j];
    }
  }
}
