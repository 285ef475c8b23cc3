// Softmax and log-softmax along a dimension, and their gradients: one read of each input and one write.
//
// Of a row in registers the largest value comes first and then the sum of e^(x - max), whose terms are kept. A longer row
// gives both in one pass while it arrives, and its exponentials are computed again when it is written.
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
