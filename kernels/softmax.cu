// Softmax and log-softmax along a dimension, and their gradients.
//
// A row is read once: its largest value and the sum of e^(x - max) come from registers. A row too long for them is read
// twice: every thread first runs over its share with a pair (max, sum) whose sum is rescaled when the maximum grows, and
// the pairs are merged in a fixed order.
#include "row.cuh"

template <class T, bool log, class Team, int E, int VEC>
__global__ void __launch_bounds__(Team::threads, 1)
softmax_forward(const T* x, T* y, index_t rows, index_t n, index_t inner) {
  using A = acc_t<T>;
  const place<Team> at(rows, n, inner);
  share<T, Team, E, VEC> r(x + at.first, n, inner);
  A m = -infinity<A>(), s = 0;
  if constexpr (r.kept) {
    r.each([&](A (&v)[VEC], index_t) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) m = nan_max(m, v[j]);
    });
    m = team_max<Team>(m);
    r.each([&](A (&v)[VEC], index_t) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        v[j] -= m;
        const A e = ::exp(v[j]);
        s += e;
        if (!log) v[j] = e;
      }
    });
  } else {
    r.each([&](A (&v)[VEC], index_t) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        if (v[j] > m) {
          s = s * ::exp(m - v[j]) + A(1);
          m = v[j];
        } else if (v[j] != -infinity<A>()) {
          s += ::exp(v[j] - m);
        }
      }
    });
    const A mine = m;
    m = team_max<Team>(m);
    s *= ::exp(mine - m);  // inf - inf: NaN, as it should be
  }
  s = team_sum<Team>(s);
  const A scale = log ? A(::log(s)) : A(1) / s;
  r.each([&](A (&v)[VEC], index_t i) {
    A out[VEC];
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      const A d = r.kept ? v[j] : v[j] - m;
      out[j] = log ? d - scale : (r.kept ? d : A(::exp(d))) * scale;
    }
    if (at.mine) store_pack<VEC>(y + at.first + r.offset(i), out);
  });
}

// dx = y (g - sum g y), or with log g - e^y sum g.
template <class T, bool log, class Team, int E, int VEC>
__global__ void __launch_bounds__(Team::threads, 1)
softmax_backward(const T* g, const T* y, T* dx, index_t rows, index_t n, index_t inner) {
  using A = acc_t<T>;
  const place<Team> at(rows, n, inner);
  share<T, Team, E, VEC> rg(g + at.first, n, inner), ry(y + at.first, n, inner);
  A s = 0;
  rg.each(ry, [&](A (&gv)[VEC], A (&yv)[VEC], index_t) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) s += log ? gv[j] : gv[j] * yv[j];
  });
  s = team_sum<Team>(s);
  rg.each(ry, [&](A (&gv)[VEC], A (&yv)[VEC], index_t i) {
    A out[VEC];
#pragma unroll
    for (int j = 0; j < VEC; ++j) out[j] = log ? gv[j] - A(::exp(yv[j])) * s : yv[j] * (gv[j] - s);
    if (at.mine) store_pack<VEC>(dx + at.first + rg.offset(i), out);
  });
}
