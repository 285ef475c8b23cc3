// Recurrent layers: the arithmetic of one step of one layer, each way, with the recurrent matrix product or after it.
//
// A thread has one hidden unit j of one sequence i and works on all its gates, which lie m apart in a row. The input's part of
// the gates is read and the gates themselves are written in the same place; with them, and the cell states in the
// accumulation type, the way back recomputes no product. Sequences i >= k have ended (or, backwards, not begun): their output
// is zero and their state stays.
//
// *_step: one launch for step t of arrays that hold all steps, after step s (-1: the given state). A block sums all gates of 8 units for 32 sequences, h u^T, and its 256 threads go on with one
// unit of one sequence each; what they need besides is on its way during the sum. Backwards 16 units of 16 sequences: the
// gradients of the later step's gates by the weight, turned over, and with them this step's.
// *_forward, *_backward: after the product of a library, which is better for many sequences.
#include "rnn_step.cuh"

constexpr int UNITS = 32, SEQUENCES = 4;  // of a block after a library's product

template <class A> __device__ __forceinline__ A sigmoid(A a) { return A(1) / (A(1) + A(::exp(-a))); }
template <class A> __device__ __forceinline__ A tangent(A a) { return A(::tanh(a)); }

template <class T> __device__ __forceinline__ acc_t<T> load_or_zero(const T* p, index_t i) {
  return p ? load(p + i) : acc_t<T>(0);
}

// For each (i, j) of an n x m matrix.
template <class F> __device__ __forceinline__ void for_each_unit(index_t n, index_t m, F f) {
  const index_t i = index_t(blockIdx.x) * SEQUENCES + threadIdx.y, j = index_t(blockIdx.y) * UNITS + threadIdx.x;
  if (i < n && j < m) f(i, j);
}

// The sum of a gate but for the state's part: the input's part x and both biases.
template <class T> struct sums {
  const T *x, *b, *d;
  __device__ __forceinline__ acc_t<T> operator()(index_t row, index_t unit) const {
    return load(x + row + unit) + load_or_zero(b, unit) + load_or_zero(d, unit);
  }
};

// ---- the product of a step, in the launch of its arithmetic -------------------------------------------------------------

// A block's place in an n x m matrix, and the product of its tile: GATES numbers for each thread.
template <class T, bool MMA, int ROWS, int GATES> struct step {
  static constexpr int units = STEP_THREADS / ROWS;
  using tile = step_tile<T, MMA, ROWS, GATES * units>;
  void* memory;
  const index_t i0 = index_t(blockIdx.y) * ROWS, j0 = index_t(blockIdx.x) * units;
  const index_t i = i0 + threadIdx.x / units, j = j0 + threadIdx.x % units;

  // Lines a(i), or zeros where it gives null, by lines j, m + j, ... of w, of k numbers each.
  template <class Line> __device__ __forceinline__ void multiply(Line a, const T* w, index_t m, int k) const {
    const auto weight = [&](int c) { return j0 + c % units < m ? w + (c / units * m + j0 + c % units) * k : nullptr; };
    tile::product(memory, [&](int r) { return a(i0 + r); }, weight, w, k);
  }
  __device__ __forceinline__ acc_t<T> operator[](int gate) const {
    return tile::total(memory, threadIdx.x / units, gate * units + threadIdx.x % units);
  }

  // What reaches a thread's state from the step after it, l (-1: none): the k gradients dsums of the sums of each of its kl
  // sequences by the weights.
  __device__ __forceinline__ acc_t<T> from_later(const T* dsums, index_t k, const T* ut, index_t n, index_t m, index_t l,
                                                 index_t kl) const {
    if (i0 >= kl) return 0;
    const T* later = dsums + l * n * k;
    multiply([&](index_t r) { return r < kl ? later + r * k : nullptr; }, ut, m, int(k));
    return (*this)[0];
  }
};
template <class T, bool MMA, int GATES> using step_forward = step<T, MMA, 32, GATES>;
template <class T, bool MMA> using step_backward = step<T, MMA, 16, 1>;

// What a thread needs besides the product: asked for before it, converted and added after it, so that nothing waits between.
template <class T, int N> struct asked {
  T v[N];
  __device__ __forceinline__ asked(bool there, const T* p, index_t m) {  // N numbers m apart, or zeros
    for (int q = 0; q < N; ++q) v[q] = there && p ? p[q * m] : from_acc<T>(0);
  }
  __device__ __forceinline__ acc_t<T> operator[](int q) const { return to_acc<T>(v[q]); }
};

// The states (n x m) that a step starts from: of the step before for its sequences i < k, else those that were given.
template <class T> struct states {
  const T *before, *given;
  index_t k, m;
  __device__ __forceinline__ const T* operator()(index_t i) const { return (i < k ? before : given) + i * m; }
};

// ---- LSTM: gates i f g o, (n, 4m) -------------------------------------------------------------------------------------

// From the gates' sums s to gates, state and output, all pointers at this unit.
template <class T>
__device__ __forceinline__ acc_t<T> lstm_cell(const acc_t<T> (&s)[4], acc_t<T> before, T* gates, index_t m, acc_t<T>* after) {
  using A = acc_t<T>;
  const A in = sigmoid(s[0]), forget = sigmoid(s[1]), g = tangent(s[2]), out = sigmoid(s[3]), c = forget * before + in * g;
  store(gates, in);
  store(gates + m, forget);
  store(gates + 2 * m, g);
  store(gates + 3 * m, out);
  *after = c;
  return out * tangent(c);
}

// From the output's gradient e and the state's d to those of the gates' sums; the gradient of the state before.
template <class T>
__device__ __forceinline__ acc_t<T> lstm_cell_backward(acc_t<T> e, acc_t<T> d, const asked<T, 4>& gates, acc_t<T> before,
                                                       acc_t<T> after, T* dsums, index_t m) {
  using A = acc_t<T>;
  const A in = gates[0], forget = gates[1], g = gates[2], out = gates[3], tc = tangent(after);
  d += e * out * (A(1) - tc * tc);
  store(dsums, d * g * in * (A(1) - in));
  store(dsums + m, d * before * forget * (A(1) - forget));
  store(dsums + 2 * m, d * in * (A(1) - g * g));
  store(dsums + 3 * m, e * tc * out * (A(1) - out));
  return d * forget;
}

template <class T>
__global__ void __launch_bounds__(UNITS * SEQUENCES)
lstm_forward(T* gates, const T* part, const T* b, const T* d, const acc_t<T>* before, acc_t<T>* after, T* y, index_t n,
             index_t m, index_t k) {
  const sums<T> sum{gates, b, d};
  for_each_unit(n, m, [=](index_t i, index_t j) {
    using A = acc_t<T>;
    const index_t at = i * m + j, row = i * 4 * m;
    if (i >= k) {
      after[at] = before[at];
      store(y + at, A(0));
      return;
    }
    A s[4];
    for (int q = 0; q < 4; ++q) s[q] = sum(row, q * m + j) + load(part + row + q * m + j);
    store(y + at, lstm_cell(s, before[at], gates + row + j, m, after + at));
  });
}

// k sequences are there, and were ks at step s. given, c: the states before all steps. last: those after, if this is an end.
template <class T, bool MMA>
__global__ void __launch_bounds__(STEP_THREADS, 2)
lstm_step(T* gates, const T* given, const T* u, const T* b, const T* d, const acc_t<T>* c, acc_t<T>* cells, T* y, T* last,
          index_t n, index_t m, index_t t, index_t s, index_t k, index_t ks, bool end) {
  using A = acc_t<T>;
  using tile = step_forward<T, MMA, 4>;
  __shared__ alignas(16) unsigned char memory[tile::tile::bytes];
  const tile part{memory};
  const index_t i = part.i, j = part.j, size = n * m, at = t * size + i * m + j, row = (t * n + i) * 4 * m;
  const bool live = i < n && j < m, there = live && i < k;
  const asked<T, 4> x(there, gates + row + j, m), bs(there && b, b + j, m), ds(there && d, d + j, m);
  const A old = live ? (s < 0 ? c : cells + s * size)[i * m + j] : A(0);
  const states<T> state{y + s * size, given, ks, m};
  if (part.i0 < k) part.multiply([&](index_t r) { return r < k ? state(r) : nullptr; }, u, m, int(m));
  if (live && !there) {
    cells[at] = old;
    store(y + at, A(0));
  }
  if (!there) return;
  A a[4];
  for (int q = 0; q < 4; ++q) a[q] = x[q] + bs[q] + ds[q] + part[q];
  const A v = lstm_cell(a, old, gates + row + j, m, cells + at);
  store(y + at, v);
  if (end) store(last + i * m + j, v);
}

// dsums: the gradients of the gates' sums. dc goes from the state after to the state before, in place.
template <class T>
__global__ void __launch_bounds__(UNITS * SEQUENCES)
lstm_backward(const T* gy, const T* dh, acc_t<T>* dc, const T* gates, const acc_t<T>* before, const acc_t<T>* after,
              T* dsums, index_t n, index_t m, index_t k) {
  for_each_unit(n, m, [=](index_t i, index_t j) {
    using A = acc_t<T>;
    const index_t at = i * m + j, row = i * 4 * m + j;
    if (i >= k) {
      for (int q = 0; q < 4; ++q) store(dsums + row + q * m, A(0));
      return;
    }
    const A e = load(gy + at) + load_or_zero(dh, at);
    const asked<T, 4> kept(true, gates + row, m);
    dc[at] = lstm_cell_backward(e, dc[at], kept, before[at], after[at], dsums + row, m);
  });
}

// l: the step after this one (-1: none), at which kl sequences were there. carry, if carried: what else reaches the state after
// this step, (n, m); it stays for sequences that are not there yet, with what reaches them, and is spent otherwise.
template <class T, bool MMA>
__global__ void __launch_bounds__(STEP_THREADS, 2)
lstm_step_backward(const T* gy, T* dsums, const T* ut, acc_t<T>* carry, acc_t<T>* dc, const T* gates, const acc_t<T>* c,
                   const acc_t<T>* cells, index_t n, index_t m, index_t t, index_t s, index_t k, index_t l, index_t kl,
                   bool carried) {
  using A = acc_t<T>;
  using tile = step_backward<T, MMA>;
  __shared__ alignas(16) unsigned char memory[tile::tile::bytes];
  const tile part{memory};
  const index_t i = part.i, j = part.j, own = i * m + j, at = t * n * m + own, row = (t * n + i) * 4 * m + j;
  const bool live = i < n && j < m, there = live && i < k;
  const asked<T, 4> kept(there, gates + row, m);
  const asked<T, 1> g(there, gy + at, 0);
  const A before = there ? (s < 0 ? c : cells + s * n * m)[own] : A(0), after = there ? cells[at] : A(0);
  const A old = there ? dc[own] : A(0);
  A e = live && carried ? carry[own] : A(0);
  e += part.from_later(dsums, 4 * m, ut, n, m, l, kl);
  if (!live) return;
  if (carried) carry[own] = i < k ? A(0) : e;
  if (there) {
    dc[own] = lstm_cell_backward(e + g[0], old, kept, before, after, dsums + row, m);
  } else {
    for (int q = 0; q < 4; ++q) store(dsums + row + q * m, A(0));
  }
}

// ---- GRU: gates r z n, (n, 3m); inner is u_n h + d_n --------------------------------------------------------------------

// From the sums of r, z and n but for the state's part of n, which is q, to gates and output.
template <class T>
__device__ __forceinline__ acc_t<T> gru_cell(const acc_t<T> (&s)[3], acc_t<T> q, acc_t<T> before, T* gates, index_t m,
                                             T* inner) {
  using A = acc_t<T>;
  const A r = sigmoid(s[0]), z = sigmoid(s[1]), v = tangent(s[2] + r * q);
  store(gates, r);
  store(gates + m, z);
  store(gates + 2 * m, v);
  store(inner, q);
  return v + z * (before - v);
}

// From the output's gradient e to those of the input's part dx and of the state's part dh of the sums; what reaches the state
// before directly.
template <class T>
__device__ __forceinline__ acc_t<T> gru_cell_backward(acc_t<T> e, const asked<T, 3>& gates, acc_t<T> before, acc_t<T> inner,
                                                      T* dx, T* dh, index_t m) {
  using A = acc_t<T>;
  const A r = gates[0], z = gates[1], v = gates[2];
  const A dv = e * (A(1) - z) * (A(1) - v * v), dr = dv * inner * r * (A(1) - r), dz = e * (before - v) * z * (A(1) - z);
  store(dx, dr);
  store(dx + m, dz);
  store(dx + 2 * m, dv);
  store(dh, dr);
  store(dh + m, dz);
  store(dh + 2 * m, dv * r);
  return e * z;
}

template <class T> __device__ __forceinline__ void gru_no_cell_backward(index_t m, T* dx, T* dh) {
  for (int q = 0; q < 3; ++q) {
    store(dx + q * m, acc_t<T>(0));
    store(dh + q * m, acc_t<T>(0));
  }
}

template <class T>
__global__ void __launch_bounds__(UNITS * SEQUENCES)
gru_forward(T* gates, const T* part, const T* b, const T* d, const T* before, T* inner, T* y, index_t n, index_t m,
            index_t k) {
  for_each_unit(n, m, [=](index_t i, index_t j) {
    using A = acc_t<T>;
    const index_t at = i * m + j, row = i * 3 * m, unit = 2 * m + j;
    if (i >= k) {
      store(y + at, A(0));
      return;
    }
    const sums<T> sum{gates, b, d};
    const A r = sum(row, j) + load(part + row + j), z = sum(row, m + j) + load(part + row + m + j);
    const A s[3] = {r, z, load(gates + row + unit) + load_or_zero(b, unit)};
    const A q = load(part + row + unit) + load_or_zero(d, unit);
    store(y + at, gru_cell(s, q, load(before + at), gates + row + j, m, inner + at));
  });
}

template <class T, bool MMA>
__global__ void __launch_bounds__(STEP_THREADS, 2)
gru_step(T* gates, const T* given, const T* u, const T* b, const T* d, T* inner, T* y, T* last, index_t n, index_t m,
         index_t t, index_t s, index_t k, index_t ks, bool end) {
  using A = acc_t<T>;
  using tile = step_forward<T, MMA, 3>;
  __shared__ alignas(16) unsigned char memory[tile::tile::bytes];
  const tile part{memory};
  const index_t i = part.i, j = part.j, at = (t * n + i) * m + j, row = (t * n + i) * 3 * m;
  const bool live = i < n && j < m, there = live && i < k;
  const states<T> state{y + s * n * m, given, ks, m};
  const asked<T, 3> x(there, gates + row + j, m), bs(there && b, b + j, m), ds(there && d, d + j, m);
  const asked<T, 1> old(there, there ? state(i) + j : nullptr, 0);
  if (part.i0 < k) part.multiply([&](index_t r) { return r < k ? state(r) : nullptr; }, u, m, int(m));
  if (live && !there) store(y + at, A(0));
  if (!there) return;
  const A a[3] = {x[0] + bs[0] + ds[0] + part[0], x[1] + bs[1] + ds[1] + part[1], x[2] + bs[2]};
  const A v = gru_cell(a, ds[2] + part[2], old[0], gates + row + j, m, inner + at);
  store(y + at, v);
  if (end) store(last + i * m + j, v);
}

// through: what reaches the state before not by a product but directly, in place; the gradient of the state after is
// gy + part + through.
template <class T>
__global__ void __launch_bounds__(UNITS * SEQUENCES)
gru_backward(const T* gy, const T* part, acc_t<T>* through, const T* gates, const T* before, const T* inner, T* dx, T* dh,
             index_t n, index_t m, index_t k) {
  for_each_unit(n, m, [=](index_t i, index_t j) {
    using A = acc_t<T>;
    const index_t at = i * m + j, row = i * 3 * m + j;
    const A later = load_or_zero(part, at) + through[at];
    if (i >= k) {
      gru_no_cell_backward(m, dx + row, dh + row);
      through[at] = later;
      return;
    }
    const asked<T, 3> kept(true, gates + row, m);
    const A old = load(before + at), q = load(inner + at);
    through[at] = gru_cell_backward(load(gy + at) + later, kept, old, q, dx + row, dh + row, m);
  });
}

// l and kl as above; through as in gru_backward.
template <class T, bool MMA>
__global__ void __launch_bounds__(STEP_THREADS, 2)
gru_step_backward(const T* gy, T* dx, T* dh, const T* ut, acc_t<T>* through, const T* gates, const T* before, const T* inner,
                  index_t n, index_t m, index_t t, index_t k, index_t l, index_t kl) {
  using A = acc_t<T>;
  using tile = step_backward<T, MMA>;
  __shared__ alignas(16) unsigned char memory[tile::tile::bytes];
  const tile part{memory};
  const index_t i = part.i, j = part.j, own = i * m + j, at = t * n * m + own, row = (t * n + i) * 3 * m + j;
  const bool live = i < n && j < m, there = live && i < k;
  const asked<T, 3> kept(there, gates + row, m);
  const asked<T, 1> g(there, gy + at, 0), old(there, before + at, 0), q(there, inner + at, 0);
  A e = live ? through[own] : A(0);
  e += part.from_later(dh, 3 * m, ut, n, m, l, kl);
  if (!live) return;
  if (there) {
    through[own] = gru_cell_backward(e + g[0], kept, old[0], q[0], dx + row, dh + row, m);
  } else {
    gru_no_cell_backward(m, dx + row, dh + row);
    through[own] = e;
  }
}

// ---- the plain cell: tanh or relu of the sum, in place ------------------------------------------------------------------

template <class A> __device__ __forceinline__ A rnn_cell(A a, bool relu) { return !relu ? tangent(a) : a > A(0) || a != a ? a : A(0); }
template <class A> __device__ __forceinline__ A rnn_slope(A v, bool relu) { return relu ? A(v > A(0)) : A(1) - v * v; }

template <class T, bool relu>
__global__ void __launch_bounds__(UNITS * SEQUENCES)
rnn_forward(T* y, const T* part, const T* b, const T* d, index_t n, index_t m, index_t k) {
  const sums<T> sum{y, b, d};
  for_each_unit(n, m, [=](index_t i, index_t j) {
    using A = acc_t<T>;
    store(y + i * m + j, i < k ? rnn_cell(sum(i * m, j) + load(part + i * m + j), relu) : A(0));
  });
}

template <class T, bool MMA>
__global__ void __launch_bounds__(STEP_THREADS, 2)
rnn_step(T* y, const T* given, const T* u, const T* b, const T* d, T* last, bool relu, index_t n, index_t m, index_t t,
         index_t s, index_t k, index_t ks, bool end) {
  using A = acc_t<T>;
  using tile = step_forward<T, MMA, 1>;
  __shared__ alignas(16) unsigned char memory[tile::tile::bytes];
  const tile part{memory};
  const index_t i = part.i, j = part.j, row = (t * n + i) * m;
  const bool live = i < n && j < m, there = live && i < k;
  const asked<T, 1> x(there, y + row + j, 0), bs(there && b, b + j, 0), ds(there && d, d + j, 0);
  const states<T> state{y + s * n * m, given, ks, m};
  if (part.i0 < k) part.multiply([&](index_t r) { return r < k ? state(r) : nullptr; }, u, m, int(m));
  const A v = there ? rnn_cell(x[0] + bs[0] + ds[0] + part[0], relu) : A(0);
  if (live) store(y + row + j, v);
  if (there && end) store(last + i * m + j, v);
}

template <class T, bool relu>
__global__ void __launch_bounds__(UNITS * SEQUENCES)
rnn_backward(const T* gy, const T* dh, const T* y, T* dsum, index_t n, index_t m, index_t k) {
  for_each_unit(n, m, [=](index_t i, index_t j) {
    using A = acc_t<T>;
    const index_t at = i * m + j;
    store(dsum + at, i < k ? (load(gy + at) + load_or_zero(dh, at)) * rnn_slope(load(y + at), relu) : A(0));
  });
}

// l, kl and carry as above.
template <class T, bool MMA>
__global__ void __launch_bounds__(STEP_THREADS, 2)
rnn_step_backward(const T* gy, T* dsums, const T* ut, acc_t<T>* carry, const T* y, bool relu, index_t n, index_t m,
                  index_t t, index_t k, index_t l, index_t kl, bool carried) {
  using A = acc_t<T>;
  using tile = step_backward<T, MMA>;
  __shared__ alignas(16) unsigned char memory[tile::tile::bytes];
  const tile part{memory};
  const index_t i = part.i, j = part.j, own = i * m + j, at = t * n * m + own;
  const bool live = i < n && j < m, there = live && i < k;
  const asked<T, 1> g(there, gy + at, 0), v(there, y + at, 0);
  A e = live && carried ? carry[own] : A(0);
  e += part.from_later(dsums, m, ut, n, m, l, kl);
  if (!live) return;
  if (carried) carry[own] = i < k ? A(0) : e;
  store(dsums + at, there ? (e + g[0]) * rnn_slope(v[0], relu) : A(0));
}
