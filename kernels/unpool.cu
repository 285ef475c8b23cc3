// Max unpooling: elements put at their places in planes of zeros. Every element first claims its place with its number
// within the plane, the largest number wins (an integer maximum, in whatever order, is the same); then every place reads
// what its owner has. So of elements with one place the last stays, as on the CPU.
#include "common.cuh"

// owner[plane, indices[i]] = the largest i that names it. Places out of range are left out.
__global__ void __launch_bounds__(256, 1) unpool_claim(const index_t* __restrict__ indices, int* __restrict__ owner,
                                                       index_t size, index_t per, index_t plane) {
  const index_t at = grid_thread();
  if (at >= size) return;
  const index_t place = indices[at];
  if (place >= 0 && place < plane) atomicMax(owner + at / per * plane + place, int(at % per));
}

// y[place] = x[its owner], or zero.
template <class T>
__global__ void __launch_bounds__(256, 1) unpool_fill(const T* __restrict__ x, const int* __restrict__ owner,
                                                      T* __restrict__ y, index_t size, index_t per, index_t plane) {
  const index_t at = grid_thread();
  if (at >= size) return;
  const int i = owner[at];
  y[at] = i < 0 ? from_acc<T>(0) : x[at / plane * per + i];
}
