// Gradient scaling: are all gradients of a model finite, what are they unscaled, and which scale comes next. None of it is
// told to the host.
//
// One launch takes all gradients of a dtype (table.cuh). Every thread that sees a value that is not finite writes the same 1:
// the order does not matter. The scale and the count of good steps are updated by one thread.
#include "table.cuh"

// Whether one of N neighbouring elements is not finite; with `unscales` they are multiplied by `by` as well.
template <class T, bool unscales, int N> __device__ __forceinline__ bool infinite(T* g, acc_t<T> by) {
  using A = acc_t<T>;
  using P = pack<T, N>;
  P v = *reinterpret_cast<const P*>(g);
  bool found = false;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const A x = to_acc<T>(v.v[j]);
    found |= !(x - x == A(0));
    if (unscales) v.v[j] = from_acc<T>(x * by);
  }
  if (unscales) *reinterpret_cast<P*>(g) = v;
  return found;
}

// found = 1 if a gradient has an element that is not finite; with `unscales` gradients are divided by the scale.
template <class T, bool unscales>
__global__ void __launch_bounds__(THREADS, 2) unscale(const row* rows, int count, const float* scale, float* found) {
  constexpr int N = pack_size<T>;
  const row r = my_row(rows, count);
  const acc_t<T> by = unscales ? float(1.0 / double(*scale)) : 1.0f;
  T* g = chunk<T>(r, r.p);
  const int n = chunk_size(r), packed = r.p % 16 ? 0 : n / N * N;
  bool bad = false;
  for (int i = threadIdx.x * N; i < packed; i += THREADS * N) bad |= infinite<T, unscales, N>(g + i, by);
  for (int i = packed + threadIdx.x; i < n; i += THREADS) bad |= infinite<T, unscales, 1>(g + i, by);
  if (bad) *found = 1;
}

// A step with an infinite gradient shrinks the scale; `interval` steps without one in a row grow it, unless beyond float.
__global__ void __launch_bounds__(1) update_scale(
    float* scale, int* tracker, const float* found, double growth, double backoff, int interval) {
  const int good = *found != 0 ? 0 : *tracker + 1;
  if (*found != 0) {
    *scale = float(*scale * backoff);
  } else if (good == interval) {
    const float grown = float(*scale * growth);
    if (grown - grown == 0) *scale = grown;
  }
  *tracker = good == interval ? 0 : good;
}
