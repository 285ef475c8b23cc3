// Sums of rows that carry the same number: the gradient of a gather, of an embedding, of x[index].
//
// The numbers come sorted, so the rows of one number are a run of neighbours; `order` says where each row lies in x. The
// sorted rows are cut into chunks of CHUNK, and a thread walks one column of one chunk. A run that begins and ends in its
// chunk is stored at once. What a chunk knows of a run that came in from the chunk before is its head, of one that goes on
// into the next its tail: head and tail of all chunks are again rows sorted by number, CHUNK / 2 times fewer, and the same
// kernel sums them, until one chunk holds them all. So work is fair however long a run is, there are no atomics, the order
// of every sum depends on the numbers alone, and a sum is rounded to a half type once.
#include "common.cuh"

constexpr int CHUNK = 32;  // rows per thread; gradflow/cuda/index.py knows it too
constexpr int TILE = 256;

// The numbers of a few ten thousand rows sorted, equals in their order: row order[k] has the k-th, sorted[k]. A thread has
// one row and counts those that come before it. Unlike a library's sort it lets no host wait, so that a graph can hold it.
// Numbers outside 0..n-1 come last, as n.
__global__ void __launch_bounds__(64) places(const index_t* __restrict__ ids, index_t* __restrict__ order,
                                             index_t* __restrict__ sorted, int m, int n) {
  __shared__ alignas(16) int tile[TILE];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const auto number = [=](int k) { return k < m && ids[k] >= 0 && ids[k] < n ? int(ids[k]) : n; };
  const int mine = number(i);
  int place = 0;
  for (int first = 0; first < m; first += TILE) {
    __syncthreads();  // the last tile has been read
    for (int k = threadIdx.x; k < TILE; k += blockDim.x) tile[k] = number(first + k);
    __syncthreads();
    const int count = m - first < TILE ? m - first : TILE;
#pragma unroll 8
    for (int k = 0; k < count; ++k) place += tile[k] < mine + (first + k < i);
  }
  if (i < m) order[place] = i, sorted[place] = mine;
}

// x of source type S has `width` columns and at least m rows, order may be null for rows that lie in order, ids (m) are
// sorted, y (n, width) is zero where nothing was stored yet, part (2 chunks, width) and part_ids (2 chunks) get the heads
// and tails; both are null if one chunk holds all. Numbers outside 0..n-1 are passed over.
template <class T, class S>
__global__ void __launch_bounds__(256, 4) segment_sum(
    const S* __restrict__ x, const index_t* __restrict__ order, const index_t* __restrict__ ids, T* __restrict__ y,
    acc_t<T>* __restrict__ part, index_t* __restrict__ part_ids, index_t m, index_t width, index_t n) {
  using A = acc_t<T>;
  const index_t chunk = index_t(blockIdx.x) * blockDim.y + threadIdx.y, begin = chunk * CHUNK;
  const index_t column = index_t(blockIdx.y) * blockDim.x + threadIdx.x;
  if (begin >= m || column >= width) return;
  ids += begin;
  const int count = m - begin < CHUNK ? int(m - begin) : CHUNK;
  const bool goes_on = begin + count < m && ids[count] == ids[count - 1];  // the last run, into the next chunk
  bool came = begin > 0 && ids[-1] == ids[0];                              // the run at hand began in the chunk before
  A sum = 0, head = 0, tail = 0;
  for (int r = 0; r < count; ++r) {
    sum += A(to_acc<S>(x[(order ? order[begin + r] : begin + r) * width + column]));
    const index_t id = ids[r];
    if (r + 1 < count && ids[r + 1] == id) continue;
    if (came) head = sum;
    else if (r + 1 == count && goes_on) tail = sum;
    else if (id >= 0 && id < n) store(y + id * width + column, load(y + id * width + column) + sum);
    sum = 0, came = false;
  }
  if (part) {
    part[2 * chunk * width + column] = head;
    part[(2 * chunk + 1) * width + column] = tail;
    if (column == 0) part_ids[2 * chunk] = ids[0], part_ids[2 * chunk + 1] = ids[count - 1];
  }
}
