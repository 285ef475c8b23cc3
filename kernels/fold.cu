// Patches of images as columns, and columns added up to images. One thread makes one number: a column's element is read
// from where its tap looks; a pixel gathers what every tap that can see it wrote, tap by tap in order, so there are no
// atomics. I is the type that counts elements: unsigned where they fit, since division by 64-bit numbers is slow.
#include "common.cuh"

// The parameters of a kernel for one dim, since a launch passes no structs.
#define DIM(a) int a##_size, int a##_taps, int a##_out, int a##_stride, int a##_before, int a##_dilation

// y[plane, i, j, oh, ow] = x[plane, oh * stride - before + i * dilation, ...], zero outside.
template <class T, class I>
__global__ void __launch_bounds__(256, 1) im2col(const T* __restrict__ x, T* __restrict__ y, index_t size, DIM(h),
                                                 DIM(v)) {
  const index_t at = grid_thread();
  if (at >= size) return;
  const I row = I(at) / I(v_out), tap = row / I(h_out), line = tap / I(v_taps), plane = line / I(h_taps);
  const int iy = int(row % I(h_out)) * h_stride - h_before + int(line % I(h_taps)) * h_dilation;
  const int ix = int(I(at) % I(v_out)) * v_stride - v_before + int(tap % I(v_taps)) * v_dilation;
  const bool inside = unsigned(iy) < unsigned(h_size) && unsigned(ix) < unsigned(v_size);
  y[at] = inside ? x[index_t(plane) * h_size * v_size + index_t(iy) * v_size + ix] : from_acc<T>(0);
}

// y[plane, ih, iw] = the sum of x[plane, i, j, oh, ow] over the taps and places that look there.
template <class T, class I>
__global__ void __launch_bounds__(256, 1) col2im(const T* __restrict__ x, T* __restrict__ y, index_t size, DIM(h),
                                                 DIM(v)) {
  const index_t at = grid_thread();
  if (at >= size) return;
  const I row = I(at) / I(v_size), plane = row / I(h_size);
  const int iy = int(row % I(h_size)) + h_before, ix = int(I(at) % I(v_size)) + v_before;
  const index_t places = index_t(h_out) * v_out;
  const T* columns = x + index_t(plane) * h_taps * v_taps * places;
  acc_t<T> sum = 0;
  for (int i = 0; i < h_taps; ++i) {
    const int u = iy - i * h_dilation, oh = u / h_stride;
    if (u < 0 || oh >= h_out || oh * h_stride != u) continue;
    for (int j = 0; j < v_taps; ++j) {
      const int v = ix - j * v_dilation, ow = v / v_stride;
      if (v < 0 || ow >= v_out || ow * v_stride != v) continue;
      sum += load(columns + (index_t(i) * v_taps + j) * places + index_t(oh) * v_out + ow);
    }
  }
  store(y + at, sum);
}
