// Sums over taps: elements chosen by a table of places, each with a weight of its own. A thread makes one number and reads
// in order; neighbours in a warp read neighbouring taps. A place of -1 is none, whatever its weight.
#include "common.cuh"

// y[n, c, q] = sum over k of w[n, k, q] x[n, c, at[n, k, q]].
template <class T>
__global__ void __launch_bounds__(256, 1) tap_sum(
    const T* __restrict__ x, const T* __restrict__ w, const index_t* __restrict__ at, T* __restrict__ y, index_t size,
    index_t channels, index_t positions, index_t taps, index_t places) {
  const index_t i = grid_thread();
  if (i >= size) return;
  const index_t plane = i / positions, first = plane / channels * taps * positions + i % positions;
  acc_t<T> sum = 0;
  for (index_t k = first; k < first + taps * positions; k += positions)
    if (at[k] >= 0) sum += load(w + k) * load(x + plane * places + at[k]);
  store(y + i, sum);
}

// dw[n, k, q] = sum over c of g[n, c, q] x[n, c, at[n, k, q]].
template <class T>
__global__ void __launch_bounds__(256, 1) tap_product(
    const T* __restrict__ g, const T* __restrict__ x, const index_t* __restrict__ at, T* __restrict__ dw, index_t size,
    index_t channels, index_t positions, index_t taps, index_t places) {
  const index_t i = grid_thread();
  if (i >= size) return;
  const index_t q = i % positions, image = i / positions / taps * channels, place = at[i];
  acc_t<T> sum = 0;
  if (place >= 0)
    for (index_t c = image; c < image + channels; ++c) sum += load(g + c * positions + q) * load(x + c * places + place);
  store(dw + i, sum);
}
