// Resampling along one dim: every new element is the weighted sum of a few old ones, which a table names. The gradient is
// the same with the transposed table, so both gather. A thread makes one element, its taps in order.
// I is the type that counts elements: unsigned where they fit, since division by 64-bit numbers is slow.
#include "common.cuh"

// y[outer, i, inner] = sum over k of weights[i, k] x[outer, places[i, k], inner]; a place of -1 is none.
template <class T, class I>
__global__ void __launch_bounds__(256, 1) resample(
    const T* __restrict__ x, const int* __restrict__ places, const acc_t<T>* __restrict__ weights, T* __restrict__ y,
    index_t size, index_t inner, int n, int m, int count) {
  const index_t at = grid_thread();
  if (at >= size) return;
  const I row = I(at) / I(inner), outer = row / I(m);
  const int i = int(row % I(m));
  const T* source = x + index_t(outer) * n * inner + index_t(I(at) % I(inner));
  acc_t<T> sum = 0;
  for (int k = 0; k < count; ++k) {
    const int place = places[index_t(i) * count + k];
    if (place >= 0) sum += weights[index_t(i) * count + k] * load(source + index_t(place) * inner);
  }
  store(y + at, sum);
}
