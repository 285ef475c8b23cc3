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

// ---- the order: numbers sorted, equals as they come --------------------------------------------------------------------
// Unlike a library's sort it lets no host wait, so that a graph can hold it. Row order[k] has the k-th number, sorted[k].

// Numbers outside 0..n-1 come last, as n.
__device__ __forceinline__ index_t key_of(index_t id, index_t n) { return id >= 0 && id < n ? id : n; }

// Of a few thousand numbers: a thread has one and counts those that come before it. K holds n.
template <class K>
__global__ void __launch_bounds__(64, 1) places(const index_t* __restrict__ ids, int* __restrict__ order,
                                             index_t* __restrict__ sorted, int m, index_t n) {
  constexpr int TILE = 256;
  __shared__ alignas(16) K tile[TILE];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const auto number = [=](int k) { return K(k < m ? key_of(ids[k], n) : n); };
  const K mine = number(i);
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

// More are sorted by one digit of `bits` bits after the other, the lowest first, each time in three launches: how many
// numbers of a block have each digit; how many the blocks before it have; and every number to its place. A block has
// SORTED of them, a warp its eighth, 32 neighbours at a time.
constexpr int SORTED = 2048, SORT_WARPS = 8;

struct digit_of {
  int shift, bits;
  __device__ __forceinline__ int values() const { return 1 << bits; }
  __device__ __forceinline__ int operator()(index_t key) const { return int(key >> shift) & (values() - 1); }
};

// f(i, key, digit, rank) for this warp's numbers: `rank` of those before it among the 32 have the same digit, and
// count[digit] have it among the earlier ones.
template <class F>
__device__ __forceinline__ void each_number(const index_t* ids, int m, index_t n, digit_of digit, int* count, F f) {
  const int lane = threadIdx.x % 32, first = blockIdx.x * SORTED + threadIdx.x / 32 * (SORTED / SORT_WARPS);
  for (int i = first + lane; i - lane < first + SORTED / SORT_WARPS; i += 32) {
    const bool mine = i < m;
    const index_t key = mine ? key_of(ids[i], n) : 0;
    const int d = mine ? digit(key) : -1;
    const unsigned same = __match_any_sync(0xffffffffu, d);
    const int rank = __popc(same & ((1u << lane) - 1));
    if (mine) f(i, key, d, rank);
    __syncwarp();  // all have read the count
    if (mine && rank == 0) count[d] += __popc(same);
    __syncwarp();
  }
}

// In shared memory, how many numbers of each warp have each digit; returns this warp's counts.
__device__ __forceinline__ int* count_digits(const index_t* ids, int m, index_t n, digit_of digit, int* counts) {
  int* mine = counts + threadIdx.x / 32 * digit.values();
  for (int k = threadIdx.x; k < SORT_WARPS * digit.values(); k += blockDim.x) counts[k] = 0;
  __syncthreads();
  each_number(ids, m, n, digit, mine, [](int, index_t, int, int) {});
  __syncthreads();
  return mine;
}

// counts (digits, blocks).
__global__ void __launch_bounds__(256, 4) digit_counts(const index_t* __restrict__ ids, int* __restrict__ counts, int m,
                                                       index_t n, int shift, int bits) {
  extern __shared__ int digit_memory[];
  const digit_of digit{shift, bits};
  count_digits(ids, m, n, digit, digit_memory);
  for (int d = threadIdx.x; d < digit.values(); d += blockDim.x) {
    int sum = 0;
    for (int w = 0; w < SORT_WARPS; ++w) sum += digit_memory[w * digit.values() + d];
    counts[index_t(d) * gridDim.x + blockIdx.x] = sum;
  }
}

// The sum over the lanes up to this one.
__device__ __forceinline__ int sum_up_to(int v) {
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
    const int below = __shfl_up_sync(0xffffffffu, v, d);
    if (int(threadIdx.x % 32) >= d) v += below;
  }
  return v;
}

// Instead of every count those of the blocks before, and the total of each digit: a warp to a digit.
__global__ void __launch_bounds__(256, 4) digit_offsets(int* __restrict__ counts, int* __restrict__ totals, int blocks,
                                                        int digits) {
  const int d = int(grid_thread() / 32), lane = threadIdx.x % 32;
  if (d >= digits) return;
  counts += index_t(d) * blocks;
  int before = 0;
  for (int first = 0; first < blocks; first += 32) {
    const int k = first + lane, c = k < blocks ? counts[k] : 0, sum = sum_up_to(c);
    if (k < blocks) counts[k] = before + sum - c;
    before += __shfl_sync(0xffffffffu, sum, 31);
  }
  if (lane == 0) totals[d] = before;
}

// A number goes behind those of a smaller digit, those of its own in the blocks and the warps before, and those its warp
// has had. order and ids are what the digits so far have made of them; order is null for the first digit.
__global__ void __launch_bounds__(256, 4) digit_places(
    const index_t* __restrict__ ids, const int* __restrict__ order, const int* __restrict__ before,
    const int* __restrict__ totals, int* __restrict__ next_order, index_t* __restrict__ next_ids, int m, index_t n, int shift,
    int bits) {
  extern __shared__ int digit_memory[];
  __shared__ int part[SORT_WARPS];
  const digit_of digit{shift, bits};
  const int digits = digit.values(), each = (digits + 255) / 256, from = threadIdx.x * each;
  const int until = from + each < digits ? from + each : digits;
  int mine = 0;
  for (int d = from; d < until; ++d) mine += totals[d];
  const int sum = sum_up_to(mine);
  if (threadIdx.x % 32 == 31) part[threadIdx.x / 32] = sum;
  int* const next = count_digits(ids, m, n, digit, digit_memory);  // its barriers are those of `part` too
  int start = sum - mine;
  for (int w = 0; w < int(threadIdx.x) / 32; ++w) start += part[w];
  for (int d = from; d < until; ++d) {
    int place = start + before[index_t(d) * gridDim.x + blockIdx.x];
    for (int w = 0; w < SORT_WARPS; ++w) {
      const int c = digit_memory[w * digits + d];
      digit_memory[w * digits + d] = place;
      place += c;
    }
    start += totals[d];
  }
  __syncthreads();
  each_number(ids, m, n, digit, next, [=](int i, index_t key, int d, int rank) {
    const int place = next[d] + rank;
    next_order[place] = order ? order[i] : i;
    next_ids[place] = key;
  });
}

// ---- the sums ------------------------------------------------------------------------------------------------------------

// x of source type S has `width` columns and at least m rows, order may be null for rows that lie in order, ids (m) are
// sorted, y (n, width) is zero where nothing was stored yet, part (2 chunks, width) and part_ids (2 chunks) get the heads
// and tails; both are null if one chunk holds all. The number n is passed over.
template <class T, class S>
__global__ void __launch_bounds__(256, 4) segment_sum(
    const S* __restrict__ x, const int* __restrict__ order, const index_t* __restrict__ ids, T* __restrict__ y,
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
    sum += A(to_acc<S>(x[(order ? index_t(order[begin + r]) : begin + r) * width + column]));
    const index_t id = ids[r];
    if (r + 1 < count && ids[r + 1] == id) continue;
    if (came) head = sum;
    else if (r + 1 == count && goes_on) tail = sum;
    else if (id < n) store(y + id * width + column, load(y + id * width + column) + sum);
    sum = 0, came = false;
  }
  if (part) {
    part[2 * chunk * width + column] = head;
    part[(2 * chunk + 1) * width + column] = tail;
    if (column == 0) part_ids[2 * chunk] = ids[0], part_ids[2 * chunk + 1] = ids[count - 1];
  }
}
