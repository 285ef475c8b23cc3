// Fractional max pooling: the largest element of windows of one size that start where a table says. A thread makes one
// output, and its window is read in order, so that of equals the first is chosen, of NaNs the last.
#include "common.cuh"

// The parameters of a kernel for one dim, since a launch passes no structs.
#define DIM(a) int a##_size, int a##_kernel, int a##_out

// values = the largest of each window, indices = its place in the plane. starts_*: (planes, out), or none for a dim of 1.
template <class T>
__global__ void __launch_bounds__(256, 1) fractional_max_pool(
    const T* __restrict__ x, const index_t* __restrict__ starts_d, const index_t* __restrict__ starts_h,
    const index_t* __restrict__ starts_w, T* __restrict__ values, index_t* __restrict__ indices, index_t size,
    DIM(d), DIM(h), DIM(w)) {
  const index_t at = grid_thread();
  if (at >= size) return;
  const index_t row = at / w_out, layer = row / h_out, plane = layer / d_out;
  const int d = starts_d ? int(starts_d[layer]) : 0;  // (plane, d) counts layers
  const int h = int(starts_h[plane * h_out + row % h_out]), w = int(starts_w[plane * w_out + at % w_out]);
  const T* source = x + plane * d_size * h_size * w_size;
  int place = (d * h_size + h) * w_size + w;
  acc_t<T> best = load(source + place);
  for (int i = 0; i < d_kernel; ++i)
    for (int j = 0; j < h_kernel; ++j)
      for (int k = 0; k < w_kernel; ++k) {
        const int here = ((d + i) * h_size + h + j) * w_size + w + k;
        const acc_t<T> v = load(source + here);
        if (v > best || v != v) best = v, place = here;
      }
  store(values + at, best);
  indices[at] = place;
}
