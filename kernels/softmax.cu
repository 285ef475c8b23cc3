// Softmax and log-softmax along a dimension, and their gradients: one read of each input and one write.
//
// Of a row in registers the largest value comes first and then the sum of e^(x - max), whose terms are kept. A longer row
// gives both in one pass while it arrives, and its exponentials are computed again when it is written. A few very long rows
// would leave most multiprocessors idle: blocks then make parts of a row's sums, and others add them and write.
#include "row.cuh"

template <class T, bool log, class Team, int E, int VEC>
__global__ void __launch_bounds__(Team::threads, Team::resident)
softmax_forward(const T* x, T* y, index_t rows, index_t n, index_t inner, int room) {
  using A = acc_t<T>;
  const place<Team> at(rows, n, inner);
  share<T, Team, E, VEC> r(x + at.first, n, inner, -infinity<A>(), room, 0);
  A m = -infinity<A>(), s = 0;
  if constexpr (r.kept) {
    r.each([&](A (&v)[VEC], index_t) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) m = ::fmax(m, v[j]);  // a NaN comes into the sum
    });
    m = team_max<Team>(m);
    r.each([&](A (&v)[VEC], index_t) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        v[j] -= m;
        const A e = exp_for<T>(v[j]);
        s += e;
        if (!log) v[j] = e;
      }
    });
    s = team_sum<Team>(s);
  } else {
    largest_and_sum(r, m, s, [](A (&)[VEC], index_t) {});
  }
  const A scale = log ? A(::log(s)) : A(1) / s;
  r.each([&](A (&v)[VEC], index_t i) {
    A out[VEC];
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      const A d = r.kept ? v[j] : v[j] - m;
      out[j] = log ? d - scale : (r.kept ? d : exp_for<T>(d)) * scale;
    }
    if (at.mine) r.put(y + at.first, i, out);
  });
}

// dx = y (g - sum g y), or with log g - e^y sum g.
template <class T, bool log, class Team, int E, int VEC>
__global__ void __launch_bounds__(Team::threads, Team::resident)
softmax_backward(const T* g, const T* y, T* dx, index_t rows, index_t n, index_t inner, int room) {
  using A = acc_t<T>;
  const place<Team> at(rows, n, inner);
  share<T, Team, E, VEC> rg(g + at.first, n, inner, A(0), room, 0), ry(y + at.first, n, inner, A(0), room, 1);
  A s = 0;
  rg.each(ry, [&](A (&gv)[VEC], A (&yv)[VEC], index_t) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) s += log ? gv[j] : gv[j] * yv[j];
  });
  s = team_sum<Team>(s);
  rg.each(ry, [&](A (&gv)[VEC], A (&yv)[VEC], index_t i) {
    A out[VEC];
#pragma unroll
    for (int j = 0; j < VEC; ++j) out[j] = log ? gv[j] - exp_for<T>(yv[j]) * s : yv[j] * (gv[j] - s);
    if (at.mine) rg.put(dx + at.first, i, out);
  });
}

// ---- a few long rows ------------------------------------------------------------------------------------------------
// blockIdx.y: the row; blockIdx.x: the part of it, of `length` values. There are fewer parts than threads in a
// block; every block that writes a part of the row adds them all, in the same order.

constexpr int PART_THREADS = 512;

template <class T, int VEC> using part_of = share<T, lanes<PART_THREADS>, 0, VEC>;

// sums (rows, parts): the largest value of a part and its sum of e^(x - largest).
template <class T, int VEC>
__global__ void __launch_bounds__(PART_THREADS, 2)
softmax_parts(const T* x, acc_t<T>* sums, index_t n, index_t length) {
  using A = acc_t<T>;
  const index_t first = blockIdx.x * length, rest = n - first;
  part_of<T, VEC> r(x + blockIdx.y * n + first, rest < length ? rest : length, 1, -infinity<A>());
  A m, s;
  largest_and_sum(r, m, s, [](A (&)[VEC], index_t) {});
  if (m == -infinity<A>()) {  // the whole part, it may be, but not the row: it adds nothing, unless there is a NaN
    s = 0;
    r.each([&](A (&v)[VEC], index_t) {
#pragma unroll
      for (int j = 0; j < VEC; ++j)
        if (v[j] != v[j]) s = v[j];
    });
    s = block_sum(s);
  }
  if (threadIdx.x == 0) {
    A* out = sums + 2 * (index_t(blockIdx.y) * gridDim.x + blockIdx.x);
    out[0] = m, out[1] = s;
  }
}

template <class T, bool log, int VEC>
__global__ void __launch_bounds__(PART_THREADS, 2)
softmax_finish(const T* x, const acc_t<T>* sums, T* y, index_t n, index_t length) {
  using A = acc_t<T>;
  const bool mine = threadIdx.x < gridDim.x;
  const A* part = sums + 2 * (index_t(blockIdx.y) * gridDim.x + threadIdx.x);
  const A largest = mine ? part[0] : -infinity<A>(), m = block_max(largest);  // a NaN is in its part's sum
  const A s = block_sum(mine ? part[1] * ::exp(largest - m) : A(0));
  const A scale = log ? A(::log(s)) : A(1) / s;
  const index_t first = blockIdx.x * length, rest = n - first;
  part_of<T, VEC> r(x + blockIdx.y * n + first, rest < length ? rest : length, 1, -infinity<A>());
  T* out_row = y + blockIdx.y * n + first;
  r.each([&](A (&v)[VEC], index_t i) {
    A out[VEC];
#pragma unroll
    for (int j = 0; j < VEC; ++j) out[j] = log ? v[j] - m - scale : exp_for<T>(v[j] - m) * scale;
    r.put(out_row, i, out);
  });
}

// sums (rows, parts): of a part of g, times y unless log.
template <class T, bool log, int VEC>
__global__ void __launch_bounds__(PART_THREADS, 2)
softmax_backward_parts(const T* g, const T* y, acc_t<T>* sums, index_t n, index_t length) {
  using A = acc_t<T>;
  const index_t first = blockIdx.x * length, rest = n - first, at = blockIdx.y * n + first;
  const index_t size = rest < length ? rest : length;
  part_of<T, VEC> rg(g + at, size), ry(y + at, size);
  A s = 0;
  rg.each(ry, [&](A (&gv)[VEC], A (&yv)[VEC], index_t) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) s += log ? gv[j] : gv[j] * yv[j];
  });
  s = block_sum(s);
  if (threadIdx.x == 0) sums[index_t(blockIdx.y) * gridDim.x + blockIdx.x] = s;
}

template <class T, bool log, int VEC>
__global__ void __launch_bounds__(PART_THREADS, 2)
softmax_backward_finish(const T* g, const T* y, const acc_t<T>* sums, T* dx, index_t n, index_t length) {
  using A = acc_t<T>;
  const A s = block_sum(threadIdx.x < gridDim.x ? sums[index_t(blockIdx.y) * gridDim.x + threadIdx.x] : A(0));
  const index_t first = blockIdx.x * length, rest = n - first, at = blockIdx.y * n + first;
  const index_t size = rest < length ? rest : length;
  part_of<T, VEC> rg(g + at, size), ry(y + at, size);
  rg.each(ry, [&](A (&gv)[VEC], A (&yv)[VEC], index_t i) {
    A out[VEC];
#pragma unroll
    for (int j = 0; j < VEC; ++j) out[j] = log ? gv[j] - exp_for<T>(yv[j]) * s : yv[j] * (gv[j] - s);
    rg.put(dx + at, i, out);
  });
}
