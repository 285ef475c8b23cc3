// Losses: cross entropy over rows of classes, and the losses of single elements with their sum in the same pass.
//
// Cross entropy reads a row of x once: its largest value, the sum of e^(x - max) and x at the target give the row's loss
// and its log-sum-exp, which is all that the gradient e^(x - lse) - [target] needs: that of a long row is made in pieces, and
// of a few long ones the loss too. A reduced loss is a sum of partial
// sums, one to a block, that a single block adds up: in a fixed order, so the same inputs give the same bits.
#include "row.cuh"

// ---- cross entropy -------------------------------------------------------------------------------------------------------

// The loss of a row of n classes at x, with a log-sum-exp `lse` and a sum `all` (for smoothing): 0 where the target t is
// `ignore`, NaN where it is out of range.
template <class T>
__device__ __forceinline__ acc_t<T> row_loss(const T* x, index_t n, index_t inner, long long t, acc_t<T> lse, acc_t<T> all,
                                             long long ignore, double smoothing) {
  using A = acc_t<T>;
  if (t == ignore) return A(0);
  if (t < 0 || t >= n) return not_a_number<A>();
  const A loss = lse - A(1 - smoothing) * load(x + t * inner);
  return smoothing == 0 ? loss : loss - all * (A(smoothing) / A(n));
}

// The losses of rows, and their lse.
template <class T, class Out, class Team, int E, int VEC>
__global__ void __launch_bounds__(Team::threads, Team::resident)
cross_entropy_forward(const T* x, const long long* target, Out* losses, acc_t<T>* lse, index_t rows, index_t n,
                      index_t inner, long long ignore, double smoothing, int room) {
  using A = acc_t<T>;
  const place<Team> at(rows, n, inner);
  share<T, Team, E, VEC> r(x + at.first, n, inner, -infinity<A>(), room, 0);
  A m, s, all = 0;
  largest_and_sum(r, m, s, [&](A (&v)[VEC], index_t i) {
    if (smoothing == 0) return;
#pragma unroll
    for (int j = 0; j < VEC; ++j)
      if (r.own(i + j)) all += v[j];
  });
  s = ::log(s) + m;
  if (smoothing != 0) all = team_sum<Team>(all);
  if (at.mine && Team::rank() == 0) {
    store(losses + at.row, row_loss(x + at.first, n, inner, target[at.row], s, all, ignore, smoothing));
    lse[at.row] = s;
  }
}

// The same of a few long rows, from what softmax_parts (softmax.cu) stored of their pieces: a warp to a row, and one block to
// all, so that it adds up the losses too. y and total if there are no losses to store: their sum, or for a mean that by
// the number of rows that count.
template <class T>
__global__ void __launch_bounds__(512, 1)
cross_entropy_finish(const T* x, const long long* target, const acc_t<T>* parts, const acc_t<T>* sums, T* losses,
                     acc_t<T>* lse, T* y, long long* total, index_t rows, index_t n, index_t pieces, long long ignore,
                     double smoothing, bool mean) {
  using A = acc_t<T>;
  using Team = lanes<32>;
  A sum = 0;
  int count = 0;
  for (index_t row = threadIdx.y; row < rows; row += blockDim.y) {
    A m, s;
    merge_exponentials<Team>(parts + 2 * row * pieces, pieces, m, s);
    s = ::log(s) + m;
    const A all = sums ? merge_sum<Team>(sums + row * pieces, pieces) : A(0);
    if (Team::rank() == 0) {
      const A loss = row_loss(x + row * n, n, 1, target[row], s, all, ignore, smoothing);
      if (losses) store(losses + row, loss);
      lse[row] = s;
      sum += loss, count += target[row] != ignore;
    }
  }
  if (losses) return;
  sum = block_sum(sum), count = block_sum(count);
  if (block_thread() == 0) {
    store(y, mean ? sum / A(count) : sum);
    *total = mean ? count : 0;
  }
}

// dx = (s + glse) e^(x - lse) - s ((1 - smoothing) [target] + smoothing / n), s = g, of each row with `none`, else of all,
// and for a mean (total not null) divided by the number of rows that count. A row is made in pieces of `each` values.
template <class T, class Team, int E, int VEC>
__global__ void __launch_bounds__(Team::threads, Team::resident)
cross_entropy_backward(const acc_t<T>* g, const T* x, const long long* target, const acc_t<T>* lse,
                       const long long* total, const acc_t<T>* glse, T* dx, index_t rows, index_t n, index_t inner,
                       index_t pieces, index_t each, long long ignore, double smoothing, bool none) {
  using A = acc_t<T>;
  const place<Team> at(rows * pieces, n, inner);
  const piece p(at.row, n, pieces, each);
  const index_t first = inner == 1 ? p.first : at.first;
  share<T, Team, E, VEC> r(x + first, p.size, inner);
  const long long t = target[p.row];
  A s = t == ignore ? A(0) : g[none ? p.row : 0];
  if (total && t != ignore) s /= A(*total);
  const A most = lse[p.row], scale = glse ? s + glse[p.row] : s, every = s * (A(smoothing) / A(n)), own = s * A(1 - smoothing);
  r.each([&](A (&v)[VEC], index_t i) {
    A out[VEC];
#pragma unroll
    for (int j = 0; j < VEC; ++j) out[j] = scale * exp_for<T>(v[j] - most) - every - (p.from + i + j == t ? own : A(0));
    if (at.mine) r.put(dx + first, i, out);
  });
}

// ---- sums ------------------------------------------------------------------------------------------------------------------

// A part of `values` to each block; with targets the block also counts those that are not `ignore`.
template <class A>
__global__ void __launch_bounds__(512, 1)
partial_sums(const A* values, const long long* target, A* part, long long* count, index_t n, index_t each, long long ignore) {
  const index_t from = blockIdx.x * each, until = from + each < n ? from + each : n;
  A s = 0;
  int c = 0;
  for (index_t i = from + threadIdx.x; i < until; i += 512) {
    s += values[i];
    if (target) c += target[i] != ignore;
  }
  s = block_sum(s);
  c = block_sum(c);
  if (threadIdx.x == 0) {
    part[blockIdx.x] = s;
    if (target) count[blockIdx.x] = c;
  }
}

// y = the sum of the parts; for a mean divided by n, or by the sum of the counts, or by how many targets are not `ignore`.
template <class T>
__global__ void __launch_bounds__(512, 1)
final_sum(const acc_t<T>* part, const long long* count, const long long* target, T* y, long long* total, index_t parts,
          double n, bool mean, long long ignore) {
  using A = acc_t<T>;
  A s = 0;
  long long c = 0;
  for (index_t i = threadIdx.x; i < parts; i += 512) {
    s += part[i];
    if (target) c += target[i] != ignore;
    if (count) c += count[i];
  }
  s = block_sum(s);
  c = block_sum(c);
  if (threadIdx.x == 0) {
    if (total) *total = mean ? c : 0;
    store(y, mean ? s / (total ? A(c) : A(n)) : s);
  }
}

// ---- single elements -----------------------------------------------------------------------------------------------------

template <class A> __device__ __forceinline__ A magnitude(A v) { return v < A(0) ? -v : v; }

// Of d = a - b: kind 0 d^2, 1 |d|, 2 Huber's divided by delta (smooth L1), 3 Huber's.
template <class A> struct difference {
  int kind;
  A delta;
  __device__ __forceinline__ A value(A a, A b, index_t) const {
    const A d = a - b, m = magnitude(d);
    if (kind == 0) return d * d;
    if (kind == 1) return m;
    const A z = m > delta ? delta : m, huber = z * (m - z * A(0.5));  // for NaN z = m
    return kind == 2 ? huber / delta : huber;
  }
  __device__ __forceinline__ A slope(A a, A b, index_t) const {
    const A d = a - b;
    if (kind == 0) return d * A(2);
    if (kind == 1) return d != d ? d : A((d > A(0)) - (d < A(0)));
    const A z = kind == 2 ? d / delta : d, most = kind == 2 ? A(1) : delta;
    return z > most ? most : z < -most ? -most : z;
  }
};

// log(1 + e^-x) without overflow.
template <class A> __device__ __forceinline__ A softplus_of_minus(A x) {
  return (x < A(0) ? -x : A(0)) + A(::log1p(::exp(-magnitude(x))));
}

// (1 - t) x + (1 + (w - 1) t) log(1 + e^-x); there are `period` positive weights, the last dimension's, or none.
template <class A, class T> struct bce_logits {
  const T* w;
  unsigned period;
  __device__ __forceinline__ A positive(A t, index_t i) const {
    return w ? (load(w + (period > 1 ? index_t(unsigned(i) % period) : 0)) - A(1)) * t + A(1) : A(1);
  }
  __device__ __forceinline__ A value(A x, A t, index_t i) const {
    return (A(1) - t) * x + positive(t, i) * softplus_of_minus(x);
  }
  __device__ __forceinline__ A slope(A x, A t, index_t i) const {
    return A(1) - t - positive(t, i) / (A(1) + A(::exp(x)));
  }
};

// -t log x - (1 - t) log(1 - x), the logarithms held above -100.
template <class A> struct bce {
  static __device__ __forceinline__ A held(A v) { return v < A(-100) ? A(-100) : v; }
  __device__ __forceinline__ A value(A x, A t, index_t) const {
    return (t - A(1)) * held(::log1p(-x)) - t * held(::log(x));
  }
  __device__ __forceinline__ A slope(A x, A t, index_t) const {
    const A q = x * (A(1) - x);
    return (x - t) / (q < A(1e-12) ? A(1e-12) : q);
  }
};

// Each element's loss into y, or the sum of a block's into part.
template <int VEC, class T, class Loss>
__device__ __forceinline__ void elements(const T* __restrict__ x, const T* __restrict__ t, T* __restrict__ y, acc_t<T>* part, index_t n, Loss loss) {
  using A = acc_t<T>;
  A s = 0;
#pragma unroll 2
  for (index_t i = grid_thread() * VEC; i < n; i += grid_threads() * VEC) {
    A xv[VEC], tv[VEC];
    load_pack<VEC>(x + i, xv);
    load_pack<VEC>(t + i, tv);
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      xv[j] = loss.value(xv[j], tv[j], i + j);
      s += xv[j];
    }
    if (y) store_pack<VEC>(y + i, xv);
  }
  if (!y) {
    s = block_sum(s);
    if (threadIdx.x == 0) part[blockIdx.x] = s;
  }
}

// dx = g slope / n; g of every element with `none`, else one number.
template <int VEC, class T, class Loss>
__device__ __forceinline__ void slopes(const T* __restrict__ g, const T* __restrict__ x, const T* __restrict__ t, T* __restrict__ dx, index_t n, double divisor, bool none,
                                       Loss loss) {
  using A = acc_t<T>;
  const A one = none ? A(0) : load(g) / A(divisor);
#pragma unroll 2
  for (index_t i = grid_thread() * VEC; i < n; i += grid_threads() * VEC) {
    A gv[VEC], xv[VEC], tv[VEC];
    if (none) load_pack<VEC>(g + i, gv);
    load_pack<VEC>(x + i, xv);
    load_pack<VEC>(t + i, tv);
#pragma unroll
    for (int j = 0; j < VEC; ++j) xv[j] = loss.slope(xv[j], tv[j], i + j) * (none ? gv[j] : one);
    store_pack<VEC>(dx + i, xv);
  }
}

template <class T, int VEC>
__global__ void __launch_bounds__(256, 1)
difference_loss(const T* a, const T* b, T* y, acc_t<T>* part, index_t n, int kind, double delta) {
  elements<VEC>(a, b, y, part, n, difference<acc_t<T>>{kind, acc_t<T>(delta)});
}
template <class T, int VEC>
__global__ void __launch_bounds__(256, 1)
difference_loss_backward(const T* g, const T* a, const T* b, T* da, index_t n, double divisor, bool none, int kind, double delta) {
  slopes<VEC>(g, a, b, da, n, divisor, none, difference<acc_t<T>>{kind, acc_t<T>(delta)});
}

template <class T, int VEC>
__global__ void __launch_bounds__(256, 1)
bce_logits_forward(const T* x, const T* t, T* y, acc_t<T>* part, index_t n, const T* w, index_t period) {
  elements<VEC>(x, t, y, part, n, bce_logits<acc_t<T>, T>{w, unsigned(period)});
}
template <class T, int VEC>
__global__ void __launch_bounds__(256, 1)
bce_logits_backward(const T* g, const T* x, const T* t, T* dx, index_t n, double divisor, bool none, const T* w, index_t period) {
  slopes<VEC>(g, x, t, dx, n, divisor, none, bce_logits<acc_t<T>, T>{w, unsigned(period)});
}

template <class T, int VEC>
__global__ void __launch_bounds__(256, 1)
bce_forward(const T* x, const T* t, T* y, acc_t<T>* part, index_t n) {
  elements<VEC>(x, t, y, part, n, bce<acc_t<T>>{});
}
template <class T, int VEC>
__global__ void __launch_bounds__(256, 1)
bce_backward(const T* g, const T* x, const T* t, T* dx, index_t n, double divisor, bool none) {
  slopes<VEC>(g, x, t, dx, n, divisor, none, bce<acc_t<T>>{});
}
