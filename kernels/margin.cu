// The multi-class margin loss: how far other classes come within a margin of the target's value. A block does one row, its
// threads the classes in turn; sums over a row are block_sum's, in a fixed order.
#include "common.cuh"

namespace margin_ {

// max(0, x_c - (x_target - margin)), for a class that is not the target, to the power of 1 or 2.
template <class R> __device__ __forceinline__ R excess(R x, R least) { return x > least || x != x ? x - least : R(0); }

}  // namespace margin_

// losses[row] = the sum over the other classes of their excess^p, over the number of classes.
template <class T, class Out>
__global__ void __launch_bounds__(256, 1) multi_margin_forward(
    const T* __restrict__ x, const index_t* __restrict__ target, Out* __restrict__ losses, index_t rows, index_t n, int p,
    double margin) {
  using R = acc_t<T>;
  for (index_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* v = x + row * n;
    const index_t t = target[row];
    const R least = load(v + t) - R(margin);
    R sum = 0;
    for (index_t c = threadIdx.x; c < n; c += blockDim.x) {
      const R z = c == t ? R(0) : margin_::excess(load(v + c), least);
      sum += p == 1 ? z : z * z;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) store(losses + row, acc_t<Out>(sum / R(n)));
  }
}

// dx: the slope of every other class, and at the target what balances them. g is one number, or one for each row if `none`.
template <class T>
__global__ void __launch_bounds__(256, 1) multi_margin_backward(
    const T* __restrict__ g, const T* __restrict__ x, const index_t* __restrict__ target, T* __restrict__ dx,
    index_t rows, index_t n, int p, double margin, double divisor, bool none) {
  using R = acc_t<T>;
  for (index_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* v = x + row * n;
    const index_t t = target[row];
    const R least = load(v + t) - R(margin), scale = load(g + (none ? row : 0)) / R(divisor) / R(n);
    R sum = 0;
    for (index_t c = threadIdx.x; c < n; c += blockDim.x) {
      if (c == t) continue;
      const R z = margin_::excess(load(v + c), least), slope = scale * (p == 1 ? (z > 0 ? R(1) : R(0)) : 2 * z);
      store(dx + row * n + c, slope);
      sum += slope;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) store(dx + row * n + t, -sum);
  }
}
