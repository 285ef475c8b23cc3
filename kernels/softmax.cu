// Softmax and log-softmax along a dimension, and their gradients: one read of each input and one write.
//
// Of a row in registers the largest value comes first and then the sum of e^(x - max), whose terms are kept. A longer row
// gives both in one pass while it arrives, and its exponentials are computed again when it is written. A few very long rows
// are made in pieces, which are read twice.
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

// ---- a few long rows: a block to each piece --------------------------------------------------------------------------------

// parts (rows, pieces, 2): the largest value of a piece and its sum of e^(x - largest), 0 if all is -infinity; sums, if not
// null, (rows, pieces): of x.
template <class T, int VEC>
__global__ void __launch_bounds__(piece_team::threads, piece_blocks<T>)
softmax_parts(const T* x, acc_t<T>* parts, acc_t<T>* sums, index_t n, index_t pieces, index_t each) {
  using A = acc_t<T>;
  const piece p(blockIdx.x, n, pieces, each);
  piece_share<T, VEC> r(x + p.first, p.size, 1, -infinity<A>());
  A m = -infinity<A>(), s = 0, all = 0;
  r.each([&](A (&v)[VEC], index_t i) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      m = ::fmax(m, v[j]);  // a NaN comes into the sum
      if (sums && r.own(i + j)) all += v[j];
    }
  });
  m = team_max<piece_team>(m);
  const A base = m == -infinity<A>() ? A(0) : m;
  r.each([&](A (&v)[VEC], index_t) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) s += exp_for<T>(v[j] - base);
  });
  s = team_sum<piece_team>(s);
  if (sums) all = team_sum<piece_team>(all);
  if (threadIdx.x == 0) {
    parts[2 * blockIdx.x] = m, parts[2 * blockIdx.x + 1] = s;
    if (sums) sums[blockIdx.x] = all;
  }
}

template <class T, bool log, int VEC>
__global__ void __launch_bounds__(piece_team::threads, piece_blocks<T>)
softmax_finish(const T* x, const acc_t<T>* parts, T* y, index_t n, index_t pieces, index_t each) {
  using A = acc_t<T>;
  const piece p(blockIdx.x, n, pieces, each);
  piece_share<T, VEC> r(x + p.first, p.size);
  A m, s;
  merge_exponentials<piece_team>(parts + 2 * p.row * pieces, pieces, m, s);
  const A scale = log ? A(::log(s)) : A(1) / s;
  r.each([&](A (&v)[VEC], index_t i) {
    A out[VEC];
#pragma unroll
    for (int j = 0; j < VEC; ++j) out[j] = log ? v[j] - m - scale : exp_for<T>(v[j] - m) * scale;
    r.put(y + p.first, i, out);
  });
}

// parts (rows, pieces): the sums of g y, or with log of g.
template <class T, bool log, int VEC>
__global__ void __launch_bounds__(piece_team::threads, piece_blocks<T>)
softmax_backward_parts(const T* g, const T* y, acc_t<T>* parts, index_t n, index_t pieces, index_t each) {
  using A = acc_t<T>;
  const piece p(blockIdx.x, n, pieces, each);
  piece_share<T, VEC> rg(g + p.first, p.size);
  A s = 0;
  if constexpr (log) {
    rg.each([&](A (&gv)[VEC], index_t) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) s += gv[j];
    });
  } else {
    piece_share<T, VEC> ry(y + p.first, p.size);
    rg.each(ry, [&](A (&gv)[VEC], A (&yv)[VEC], index_t) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) s += gv[j] * yv[j];
    });
  }
  s = team_sum<piece_team>(s);
  if (threadIdx.x == 0) parts[blockIdx.x] = s;
}

template <class T, bool log, int VEC>
__global__ void __launch_bounds__(piece_team::threads, piece_blocks<T>)
softmax_backward_finish(const T* g, const T* y, const acc_t<T>* parts, T* dx, index_t n, index_t pieces, index_t each) {
  using A = acc_t<T>;
  const piece p(blockIdx.x, n, pieces, each);
  piece_share<T, VEC> rg(g + p.first, p.size), ry(y + p.first, p.size);
  const A s = merge_sum<piece_team>(parts + p.row * pieces, pieces);
  rg.each(ry, [&](A (&gv)[VEC], A (&yv)[VEC], index_t i) {
    A out[VEC];
#pragma unroll
    for (int j = 0; j < VEC; ++j) out[j] = log ? gv[j] - exp_for<T>(yv[j]) * s : yv[j] * (gv[j] - s);
    rg.put(dx + p.first, i, out);
  });
}
