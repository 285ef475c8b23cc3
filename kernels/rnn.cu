// Recurrent cells: the arithmetic of one step of one layer after the recurrent matrix product, one launch each way.
//
// A thread has one hidden unit j of one sequence i and works on all its gates, which lie m apart in a row: the 32 threads
// of a warp read 32 neighbours of each gate. The input's part of the gates is read and the gates themselves are written in
// the same place; with them, and the cell states in the accumulation type, the way back recomputes no product.
// Sequences i >= k have ended (or, backwards, not begun): their output is zero and their state stays.
#include "common.cuh"

constexpr int UNITS = 32, SEQUENCES = 4;  // of a block

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

// The sum of a gate: the input's part x, the state's part h, and their biases.
template <class T> struct sums {
  const T *x, *h, *b, *d;
  __device__ __forceinline__ acc_t<T> operator()(index_t row, index_t unit) const {
    return load(x + row + unit) + load(h + row + unit) + load_or_zero(b, unit) + load_or_zero(d, unit);
  }
};

// ---- LSTM: gates i f g o, (n, 4m) -------------------------------------------------------------------------------------

template <class T>
__global__ void __launch_bounds__(UNITS * SEQUENCES)
lstm_forward(T* gates, const T* part, const T* b, const T* d, const acc_t<T>* before, acc_t<T>* after, T* y, index_t n,
             index_t m, index_t k) {
  const sums<T> sum{gates, part, b, d};
  for_each_unit(n, m, [=](index_t i, index_t j) {
    using A = acc_t<T>;
    const index_t at = i * m + j, row = i * 4 * m;
    if (i >= k) {
      after[at] = before[at];
      store(y + at, A(0));
      return;
    }
    T* mine = gates + row + j;
    const A forget = sigmoid(sum(row, m + j));
    store(mine + m, forget);
    const A in = sigmoid(sum(row, j));
    store(mine, in);
    const A g = tangent(sum(row, 2 * m + j));
    store(mine + 2 * m, g);
    const A c = forget * before[at] + in * g;
    after[at] = c;
    const A out = sigmoid(sum(row, 3 * m + j));
    store(mine + 3 * m, out);
    store(y + at, out * tangent(c));
  });
}

// dsums: the gradients of the gates' sums. dc goes from the state after to the state before, in place.
template <class T>
__global__ void __launch_bounds__(UNITS * SEQUENCES)
lstm_backward(const T* gy, const T* dh, acc_t<T>* dc, const T* gates, const acc_t<T>* before, const acc_t<T>* after,
              T* dsums, index_t n, index_t m, index_t k) {
  for_each_unit(n, m, [=](index_t i, index_t j) {
    using A = acc_t<T>;
    const index_t at = i * m + j, row = i * 4 * m + j;
    T* mine = dsums + row;
    if (i >= k) {
      for (int q = 0; q < 4; ++q) store(mine + q * m, A(0));
      return;
    }
    const A in = load(gates + row), forget = load(gates + row + m), g = load(gates + row + 2 * m),
            out = load(gates + row + 3 * m), tc = tangent(after[at]);
    const A e = load(gy + at) + load_or_zero(dh, at), d = dc[at] + e * out * (A(1) - tc * tc);
    store(mine, d * g * in * (A(1) - in));
    store(mine + m, d * before[at] * forget * (A(1) - forget));
    store(mine + 2 * m, d * in * (A(1) - g * g));
    store(mine + 3 * m, e * tc * out * (A(1) - out));
    dc[at] = d * forget;
  });
}

// ---- GRU: gates r z n, (n, 3m); inner is u_n h + d_n --------------------------------------------------------------------

template <class T>
__global__ void __launch_bounds__(UNITS * SEQUENCES)
gru_forward(T* gates, const T* part, const T* b, const T* d, const T* before, T* inner, T* y, index_t n, index_t m,
            index_t k) {
  const sums<T> sum{gates, part, b, d};
  for_each_unit(n, m, [=](index_t i, index_t j) {
    using A = acc_t<T>;
    const index_t at = i * m + j, row = i * 3 * m, unit = 2 * m + j;
    if (i >= k) {
      store(y + at, A(0));
      return;
    }
    const A r = sigmoid(sum(row, j)), z = sigmoid(sum(row, m + j)), q = load(part + row + unit) + load_or_zero(d, unit);
    const A v = tangent(load(gates + row + unit) + load_or_zero(b, unit) + r * q);
    T* mine = gates + row + j;
    store(mine, r);
    store(mine + m, z);
    store(mine + 2 * m, v);
    store(inner + at, q);
    store(y + at, v + z * (load(before + at) - v));
  });
}

// dx and dh: the gradients of the input's and of the state's part of the sums. through: what reaches the state before
// not by a product but directly, in place; the gradient of the state after is gy + part + through.
template <class T>
__global__ void __launch_bounds__(UNITS * SEQUENCES)
gru_backward(const T* gy, const T* part, acc_t<T>* through, const T* gates, const T* before, const T* inner, T* dx, T* dh,
             index_t n, index_t m, index_t k) {
  for_each_unit(n, m, [=](index_t i, index_t j) {
    using A = acc_t<T>;
    const index_t at = i * m + j, row = i * 3 * m + j;
    const A later = load_or_zero(part, at) + through[at];
    if (i >= k) {
      for (int q = 0; q < 3; ++q) {
        store(dx + row + q * m, A(0));
        store(dh + row + q * m, A(0));
      }
      through[at] = later;
      return;
    }
    const A r = load(gates + row), z = load(gates + row + m), v = load(gates + row + 2 * m), e = load(gy + at) + later;
    const A dv = e * (A(1) - z) * (A(1) - v * v);
    const A dr = dv * load(inner + at) * r * (A(1) - r), dz = e * (load(before + at) - v) * z * (A(1) - z);
    store(dx + row, dr);
    store(dx + row + m, dz);
    store(dx + row + 2 * m, dv);
    store(dh + row, dr);
    store(dh + row + m, dz);
    store(dh + row + 2 * m, dv * r);
    through[at] = e * z;
  });
}

// ---- the plain cell: tanh or relu of the sum, in place ------------------------------------------------------------------

template <class T, bool relu>
__global__ void __launch_bounds__(UNITS * SEQUENCES)
rnn_forward(T* y, const T* part, const T* b, const T* d, index_t n, index_t m, index_t k) {
  const sums<T> sum{y, part, b, d};
  for_each_unit(n, m, [=](index_t i, index_t j) {
    using A = acc_t<T>;
    const A a = i < k ? sum(i * m, j) : A(0);
    store(y + i * m + j, relu ? (a > A(0) || a != a ? a : A(0)) : tangent(a));
  });
}

template <class T, bool relu>
__global__ void __launch_bounds__(UNITS * SEQUENCES)
rnn_backward(const T* gy, const T* dh, const T* y, T* dsum, index_t n, index_t m, index_t k) {
  for_each_unit(n, m, [=](index_t i, index_t j) {
    using A = acc_t<T>;
    const index_t at = i * m + j;
    const A v = load(y + at), slope = relu ? A(v > A(0)) : A(1) - v * v;
    store(dsum + at, i < k ? (load(gy + at) + load_or_zero(dh, at)) * slope : A(0));
  });
}
