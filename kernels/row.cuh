// Rows: a team of threads owns one row of n values, reads it once and keeps its share of it.
//
// An algorithm on rows is written once, as passes over "my values" and reductions over the team. Short rows are kept in
// registers (8 lanes, a warp or a block to each); longer ones in registers and, by asynchronous copies, in shared memory
// (the team `wide`), and what fits into neither is read again in every pass. Where the values of a row are `inner` apart
// (columns), neighbouring threads take neighbouring rows, so that loads stay coalesced, and E = 0: every pass reads memory.
// Rows in one piece are read by packs of 16 bytes that begin at multiples of 16: a row that does not shares its first and
// its last pack with its neighbours, and there the values that are not its own are `fill`, which an algorithm chooses to
// change nothing. Teams whose row does not exist work on the last one and store nothing: shuffles need every lane.
//
// A few long rows would leave most multiprocessors idle: blocks then take pieces of them, which they hold in registers. What
// must be known of a whole row takes two kernels: the first stores two numbers of each piece, and every block of the second
// merges those of its row, all in the same order.
#pragma once
#include "common.cuh"
#include "mma.cuh"

// SIZE threads along x; below 256 a block has several teams along y.
template <int SIZE> struct lanes {
  static constexpr int size = SIZE, threads = SIZE < 256 ? 256 : SIZE, teams = threads / SIZE, resident = 1;
  static __device__ __forceinline__ int rank() { return threadIdx.x; }
  static __device__ __forceinline__ index_t row() { return index_t(blockIdx.x) * teams + threadIdx.y; }
  template <class A, class Op> static __device__ __forceinline__ A reduce(A v, Op op, A identity) {
    if constexpr (SIZE > 32) {
      static_assert(teams == 1, "a block's reduction is over all its threads");
      return block_reduce(v, op, identity);
    } else {
#pragma unroll
      for (int d = SIZE / 2; d > 0; d /= 2) v = op(v, __shfl_xor_sync(0xffffffffu, v, d));
      return v;
    }
  }
};

// A block to a row, of which a thread has E values in registers and `room` packs in shared memory. RESIDENT blocks share a
// multiprocessor where their shared memory allows: one computes while another's row arrives.
template <int SIZE, int RESIDENT> struct wide : lanes<SIZE> { static constexpr int resident = RESIDENT; };

// Y threads along y to a row, and 32 rows to a block along x.
template <int Y> struct columns {
  static constexpr int size = Y, threads = 32 * Y, teams = 32, resident = 1;
  static __device__ __forceinline__ int rank() { return threadIdx.y; }
  static __device__ __forceinline__ index_t row() { return index_t(blockIdx.x) * 32 + threadIdx.x; }
  template <class A, class Op> static __device__ __forceinline__ A reduce(A v, Op op, A) {
    __shared__ A part[Y][32];
    __syncthreads();  // the reads of an earlier call are over
    part[threadIdx.y][threadIdx.x] = v;
    __syncthreads();
    v = part[0][threadIdx.x];
#pragma unroll
    for (int i = 1; i < Y; ++i) v = op(v, part[i][threadIdx.x]);
    return v;
  }
};

template <class Team, class A> __device__ __forceinline__ A team_sum(A v) { return Team::reduce(v, sum_of(), A(0)); }
// Two sums at once: half the barriers.
template <class Team, class A> __device__ __forceinline__ void team_sums(A& a, A& b) {
  if constexpr (Team::size > 32) {
    __shared__ A part[64];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    a = warp_sum(a), b = warp_sum(b);
    __syncthreads();  // the reads of an earlier call are over
    if (lane == 0) part[warp] = a, part[warp + 32] = b;
    __syncthreads();
    const bool mine = lane < Team::size / 32;
    a = warp_sum(mine ? part[lane] : A(0)), b = warp_sum(mine ? part[lane + 32] : A(0));
  } else {
    a = team_sum<Team>(a), b = team_sum<Team>(b);
  }
}
template <class Team, class A> __device__ __forceinline__ A team_max(A v) {
  return Team::reduce(v, max_of(), A(-infinity<A>()));
}

// e^x: where the result is rounded to 16 bits the card's own approximation is exact enough, at a quarter of the work.
template <class T> __device__ __forceinline__ acc_t<T> exp_for(acc_t<T> x) {
  if constexpr (sizeof(T) == 2) return __expf(x);
  else return ::exp(x);
}

// VEC neighbouring values as accumulators, in loads of up to 16 bytes; the address is a multiple of those.
template <int VEC, class T> __device__ __forceinline__ void load_pack(const T* p, acc_t<T> (&v)[VEC]) {
  constexpr int N = VEC < pack_size<T> ? VEC : pack_size<T>;
#pragma unroll
  for (int k = 0; k < VEC; k += N) {
    const pack<T, N> q = *reinterpret_cast<const pack<T, N>*>(p + k);
#pragma unroll
    for (int j = 0; j < N; ++j) v[k + j] = to_acc<T>(q.v[j]);
  }
}
// A pack in one store: said in so many words, as the compiler splits it where it can merge its parts with other stores.
template <class T, int N> __device__ __forceinline__ void store_whole(T* p, const pack<T, N>& q) {
  if constexpr (sizeof(q) == 16) {
    uint4 bits;
    memcpy(&bits, &q, 16);
    __stwb(reinterpret_cast<uint4*>(p), bits);
  } else {
    *reinterpret_cast<pack<T, N>*>(p) = q;
  }
}
template <int VEC, class T> __device__ __forceinline__ void store_pack(T* p, const acc_t<T> (&v)[VEC]) {
  pack<T, VEC> q;
#pragma unroll
  for (int j = 0; j < VEC; ++j) q.v[j] = from_acc<T>(v[j]);
  store_whole(p, q);
}

// By how many values the address is past a multiple of VEC: where the packs of a row begin before it.
template <int VEC, class T> __device__ __forceinline__ int shift_of(const T* p) {
  return VEC == 1 ? 0 : int(reinterpret_cast<unsigned long long>(p) / sizeof(T) % VEC);
}

// The pack at place i of a row of n values at p (i + VEC > 0, i < n), of which the ends may lie outside the row.
template <int VEC, class T>
__device__ __forceinline__ void load_end(const T* p, index_t i, index_t n, acc_t<T> fill, acc_t<T> (&v)[VEC]) {
  const int from = i < 0 ? int(-i) : 0, until = n - i < VEC ? int(n - i) : VEC;
#pragma unroll
  for (int j = 0; j < VEC; ++j) v[j] = j >= from && j < until ? load(p + i + j) : fill;
}
template <int VEC, class T>
__device__ __forceinline__ void load_part(const T* p, index_t i, index_t n, acc_t<T> fill, acc_t<T> (&v)[VEC]) {
  if (VEC == 1 || (i >= 0 && i + VEC <= n)) load_pack<VEC>(p + i, v);
  else load_end<VEC>(p, i, n, fill, v);
}
template <int VEC, class T>
__device__ __forceinline__ void store_part(T* p, index_t i, index_t n, const acc_t<T> (&v)[VEC]) {
  if (VEC == 1 || (i >= 0 && i + VEC <= n)) return store_pack<VEC>(p + i, v);
#pragma unroll
  for (int j = 0; j < VEC; ++j)
    if (i + j >= 0 && i + j < n) store(p + i + j, v[j]);
}

// The row of this thread's team among `rows`, whether it exists, and where its first value stands. Rows and inner are
// below 2^31, since a division of 64-bit numbers is a call; the number of values may be larger.
template <class Team> struct place {
  index_t row, first;
  bool mine;
  __device__ __forceinline__ place(index_t rows, index_t n, index_t inner, index_t number = Team::row()) {
    row = number;
    mine = row < rows;
    if (!mine) row = rows - 1;
    first = row * n;
    if (inner != 1) first = (unsigned(row) / unsigned(inner)) * n * inner + unsigned(row) % unsigned(inner);
  }
};

// This thread's share of a row: packs of VEC values, E values in all, or as many as there are if E = 0.
template <class T, class Team, int E, int VEC> struct share {
  using A = acc_t<T>;
  static constexpr int K = E / VEC, UNROLL = sizeof(A) == 8 ? 1 : 4;
  static constexpr bool kept = E > 0;  // in registers, so that what a pass writes is there in the next
  const T* p;
  index_t n, step;
  int shift;
  A fill, v[K ? K : 1][VEC];

  // The n values at p, p + step, ...; a step other than 1 needs E = 0 and VEC = 1.
  __device__ __forceinline__ share(const T* p, index_t n, index_t step = 1, A fill = 0, int = 0, int = 0)
      : p(p), n(n), step(step), shift(shift_of<VEC>(p)), fill(fill) {
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (has(k)) load_part<VEC>(p, at(k), n, fill, v[k]);
  }

  // The k-th pack in registers: its place in the row, and whether the row reaches it.
  __device__ __forceinline__ int at(int k) const { return Team::rank() * VEC + k * (Team::size * VEC) - shift; }
  __device__ __forceinline__ bool has(int k) const { return at(k) < int(n); }

  // f(values, place in the row) for every pack.
  template <class F> __device__ __forceinline__ void each(F f) {
    if constexpr (kept) {
#pragma unroll
      for (int k = 0; k < K; ++k)
        if (has(k)) f(v[k], at(k));
    } else {
#pragma unroll UNROLL
      for (index_t i = Team::rank() * VEC - shift; i < n; i += Team::size * VEC) {
        load_part<VEC>(p + (VEC == 1 ? i * step - i : 0), i, n, fill, v[0]);
        f(v[0], i);
      }
    }
  }

  // f(values, values of other, place) for every pack of two rows of one length and step.
  template <class Other, class F> __device__ __forceinline__ void each(Other& other, F f) {
    if constexpr (kept) {
#pragma unroll
      for (int k = 0; k < K; ++k)
        if (has(k)) f(v[k], other.v[k], at(k));
    } else {
#pragma unroll UNROLL
      for (index_t i = Team::rank() * VEC - shift; i < n; i += Team::size * VEC) {
        const index_t far = VEC == 1 ? i * step - i : 0;
        load_part<VEC>(p + far, i, n, fill, v[0]);
        load_part<VEC>(other.p + far, i, n, other.fill, other.v[0]);
        f(v[0], other.v[0], i);
      }
    }
  }

  // Whether the value at place i is the row's own.
  __device__ __forceinline__ bool own(index_t i) const { return VEC == 1 || (i >= 0 && i < n); }

  // Write the values of the pack at place i into a row like this one.
  template <class O> __device__ __forceinline__ void put(O* row, index_t i, const acc_t<O> (&out)[VEC]) const {
    if (VEC == 1) store(row + i * step, out[0]);
    else store_part<VEC>(row, i, n, out);
  }
};

// The share of a wide row: nothing that a pass writes is kept. `which` numbers the rows that a team holds, each with its
// `room` packs a thread in shared memory.
template <class T, int SIZE, int RESIDENT, int E, int VEC> struct share<T, wide<SIZE, RESIDENT>, E, VEC> {
  using A = acc_t<T>;
  using P = pack<T, VEC>;
  static constexpr int K = E / VEC, STRIDE = SIZE * VEC, UNROLL = sizeof(T) == 4 ? 2 : 1;
  static constexpr bool kept = false;
  const T* p;
  P* near;
  index_t n;
  int shift, room;
  A fill;
  P v[K];

  __device__ __forceinline__ share(const T* p, index_t n, index_t = 1, A fill = 0, int room = 0, int which = 0)
      : p(p), n(n), shift(shift_of<VEC>(p)), room(room), fill(fill) {
    extern __shared__ uint4 shared_rows[];
    near = reinterpret_cast<P*>(shared_rows) + which * (room * SIZE) + threadIdx.x;
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (whole(at(k))) v[k] = *reinterpret_cast<const P*>(p + at(k));
    for (int k = 0; k < room; ++k)
      if (whole(at(K + k))) copy_async<sizeof(P)>(near + k * SIZE, p + at(K + k));
    copy_commit();
  }

  __device__ __forceinline__ int at(int k) const { return int(threadIdx.x) * VEC + k * STRIDE - shift; }
  __device__ __forceinline__ bool whole(index_t i) const { return i >= 0 && i + VEC <= n; }
  __device__ __forceinline__ bool own(index_t i) const { return i >= 0 && i < n; }

  // The ends of a row that begin or end inside a pack: the first is for one thread, the last for another.
  __device__ __forceinline__ index_t end() const {
    if (threadIdx.x == 0 && shift) return -shift;
    return threadIdx.x == 32 ? n - index_t(unsigned(n + shift) % VEC) : n;
  }

  static __device__ __forceinline__ void values(P q, A (&a)[VEC]) {  // by value: one load of 16 bytes
#pragma unroll
    for (int j = 0; j < VEC; ++j) a[j] = to_acc<T>(q.v[j]);
  }

  template <class F> __device__ __forceinline__ void each(F f) {
    A a[VEC];
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (whole(at(k))) {
        values(v[k], a);
        f(a, at(k));
      }
    copy_wait<0>();  // a thread reads what it copied itself: no barrier
#pragma unroll 1
    for (int k = 0; k < room; ++k)
      if (whole(at(K + k))) {
        values(near[k * SIZE], a);
        f(a, at(K + k));
      }
#pragma unroll UNROLL
    for (index_t i = at(K + room); i + VEC <= n; i += STRIDE) {
      load_pack<VEC>(p + i, a);
      f(a, i);
    }
    const index_t i = end();
    if (i < n) {
      load_end<VEC>(p, i, n, fill, a);
      f(a, i);
    }
  }

  template <class F> __device__ __forceinline__ void each(share& other, F f) {
    A a[VEC], b[VEC];
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (whole(at(k))) {
        values(v[k], a);
        values(other.v[k], b);
        f(a, b, at(k));
      }
    copy_wait<0>();
#pragma unroll 1
    for (int k = 0; k < room; ++k)
      if (whole(at(K + k))) {
        values(near[k * SIZE], a);
        values(other.near[k * SIZE], b);
        f(a, b, at(K + k));
      }
#pragma unroll 1
    for (index_t i = at(K + room); i + VEC <= n; i += STRIDE) {
      load_pack<VEC>(p + i, a);
      load_pack<VEC>(other.p + i, b);
      f(a, b, i);
    }
    const index_t i = end();
    if (i < n) {
      load_end<VEC>(p, i, n, fill, a);
      load_end<VEC>(other.p, i, n, other.fill, b);
      f(a, b, i);
    }
  }

  template <class O> __device__ __forceinline__ void put(O* row, index_t i, const acc_t<O> (&out)[VEC]) const {
    store_part<VEC>(row, i, n, out);
  }
};

// The largest value of a row and the sum of e^(v - largest), in one pass: the sum is rescaled when the largest grows.
// Values that are not the row's own must be -infinity. A row without a finite value gives NaN, as inf - inf does.
template <class T, class Team, int E, int VEC, class F>
__device__ __forceinline__ void largest_and_sum(share<T, Team, E, VEC>& r, acc_t<T>& m, acc_t<T>& s, F also) {
  using A = acc_t<T>;
  m = -infinity<A>(), s = 0;
  r.each([&](A (&v)[VEC], index_t i) {
    also(v, i);
    A top = v[0];
#pragma unroll
    for (int j = 1; j < VEC; ++j) top = ::fmax(top, v[j]);  // a NaN comes into the sum
    if (top > m) {
      s *= exp_for<T>(m - top);
      m = top;
    }
    const A base = m == -infinity<A>() ? A(0) : m;
#pragma unroll
    for (int j = 0; j < VEC; ++j) s += exp_for<T>(v[j] - base);
  });
  const A mine = m;
  m = team_max<Team>(m);
  s = team_sum<Team>(s * exp_for<T>(mine - m));
}

// ---- pieces of long rows ---------------------------------------------------------------------------------------------------

using piece_team = lanes<256>;
template <class T, int VEC> using piece_share = share<T, piece_team, 16, VEC>;
template <class T> constexpr int piece_blocks = sizeof(T) == 8 ? 1 : 2;  // doubles take twice the registers

// The number-th piece, of `each` values, of rows of n.
struct piece {
  index_t row, from, first;  // where it begins in the row, and in the array
  int size;
  __device__ __forceinline__ piece(index_t number, index_t n, index_t pieces, index_t each) {
    row = pieces == 1 ? number : unsigned(number) / unsigned(pieces);
    from = (number - row * pieces) * each;
    first = row * n + from;
    size = int(n - from < each ? n - from : each);
  }
};

// The sum over a row's pieces, whose numbers stand `step` apart.
template <class Team, class A> __device__ __forceinline__ A merge_sum(const A* part, index_t pieces, int step = 1) {
  A s = 0;
  for (index_t k = Team::rank(); k < pieces; k += Team::size) s += part[k * step];
  return team_sum<Team>(s);
}

// The largest value of a row and the sum of e^(v - largest), from those of its pieces. A NaN is in its piece's sum.
template <class Team, class A>
__device__ __forceinline__ void merge_exponentials(const A* part, index_t pieces, A& m, A& s) {
  m = -infinity<A>(), s = 0;
  for (index_t k = Team::rank(); k < pieces; k += Team::size) m = ::fmax(m, part[2 * k]);
  m = team_max<Team>(m);
  for (index_t k = Team::rank(); k < pieces; k += Team::size) s += part[2 * k + 1] * A(::exp(part[2 * k] - m));
  s = team_sum<Team>(s);
}
