// The weights of attention: softmax(scale s + mask) along rows of scores, in one pass over them.
//
// Row (b, h, l) of the scores belongs to query l of head h of example b; the mask has a stride for each of these and for
// the keys, zero where it broadcasts. A query that sees no key gets zeros and not NaN. The gradient is that of softmax.
#include "row.cuh"

// What is added to the scores of a row (bias), or says which of them count (seen), or neither.
template <class T> struct masking {
  using A = acc_t<T>;
  const bool* seen;
  const T* bias;
  index_t step, last;  // between keys; the last key that counts
  A scale;
  // The score at place i of the row, -infinity outside it.
  __device__ __forceinline__ A operator()(A v, index_t i, bool own) const {
    if (!own || i > last || (seen && !seen[i * step])) return -infinity<A>();
    return v * scale + (bias ? load(bias + i * step) : A(0));
  }
};

template <class T, class Team, int E, int VEC>
__global__ void __launch_bounds__(Team::threads, Team::resident)
attention_weights(const T* s, const bool* seen, const T* bias, T* p, index_t rows, index_t n, index_t heads,
                  index_t queries, index_t step_b, index_t step_h, index_t step_l, index_t step, acc_t<T> scale,
                  bool causal, int room) {
  using A = acc_t<T>;
  const place<Team> at(rows, n, 1);
  const unsigned bh = unsigned(at.row) / unsigned(queries), l = unsigned(at.row) - bh * unsigned(queries);
  const index_t mask = index_t(bh / unsigned(heads)) * step_b + index_t(bh % unsigned(heads)) * step_h + l * step_l;
  const masking<T> score{seen ? seen + mask : nullptr, bias ? bias + mask : nullptr, step, causal ? index_t(l) : n, scale};
  using row_share = share<T, Team, E, VEC>;
  row_share r(s + at.first, n, 1, A(0), room, 0);
  A m = -infinity<A>(), sum = 0;
  if constexpr (row_share::kept) {
    r.each([&](A (&v)[VEC], index_t i) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        v[j] = score(v[j], i + j, r.own(i + j));
        m = nan_max(m, v[j]);
      }
    });
    m = team_max<Team>(m);
    const A top = m == -infinity<A>() ? A(0) : m;
    r.each([&](A (&v)[VEC], index_t) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        v[j] = ::exp(v[j] - top);
        sum += v[j];
      }
    });
  } else {
    r.each([&](A (&v)[VEC], index_t i) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const A a = score(v[j], i + j, r.own(i + j));
        if (a > m || a != a) {
          sum = sum * ::exp(m - a) + A(1) + (a - a);  // NaN where a is NaN or infinite, as e^(a - a) is there
          m = a;
        } else if (a != -infinity<A>()) {
          sum += ::exp(a - m);
        }
      }
    });
    const A mine = m;
    m = team_max<Team>(m);
    if (mine != -infinity<A>()) sum *= ::exp(mine - m);
  }
  sum = team_sum<Team>(sum);
  const A part = sum == A(0) ? A(0) : A(1) / sum;
  r.each([&](A (&v)[VEC], index_t i) {
    A out[VEC];
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      if constexpr (row_share::kept) {
        out[j] = v[j] * part;
      } else {
        const A a = score(v[j], i + j, r.own(i + j));
        out[j] = part == A(0) ? A(0) : A(::exp(a - m)) * part;
      }
    }
    if (at.mine) r.put(p + at.first, i, out);
  });
}
