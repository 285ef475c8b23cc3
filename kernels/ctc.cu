// Connectionist temporal classification. A block takes one sequence through time, its threads the states side by side:
// alpha forth, beta back, each step reading the one before from global memory. A second kernel, a block for each time and
// sequence, adds up the chances of the states of one label: the first state of a label does it for all of them, in order,
// so there are no atomics.
#include "common.cuh"

namespace ctc_ {

// The log of e^a + e^b + e^c, minus infinity for nothing.
template <class R> __device__ __forceinline__ R sum(R a, R b, R c) {
  R top = a > b ? a : b;
  top = top > c ? top : c;
  if (top == -infinity<R>()) return top;
  return top + log(exp(a - top) + exp(b - top) + exp(c - top));
}

// The label of state s.
__device__ __forceinline__ int label(const index_t* labels, int s, int blank) {
  return s % 2 ? int(labels[s / 2]) : blank;
}

// Whether state s may be reached from s - 2: past a blank between different labels.
__device__ __forceinline__ bool skips(const index_t* labels, int s) {
  return s % 2 && s > 2 && labels[s / 2] != labels[s / 2 - 1];
}

}  // namespace ctc_

// alpha[t, n, s] for x = log_probs[t, n, class], and nll[n] = -log of the chance of the labels.
template <class T>
__global__ void __launch_bounds__(128, 1) ctc_alpha(
    const T* __restrict__ x, const index_t* __restrict__ all_labels, const index_t* __restrict__ times,
    const index_t* __restrict__ counts, acc_t<T>* __restrict__ alpha, T* __restrict__ nll, int steps, int n, int classes,
    int longest, int blank) {
  using namespace ctc_;
  using R = acc_t<T>;
  const R none = -infinity<R>();
  const int i = blockIdx.x, width = 2 * longest + 1, time = int(times[i]), end = 2 * int(counts[i]);
  const index_t* labels = all_labels + index_t(i) * longest;
  for (int t = 0; t < steps; ++t) {
    const index_t row = (index_t(t) * n + i) * width;
    const R* before = alpha + row - index_t(n) * width;
    const T* here = x + (index_t(t) * n + i) * classes;
    for (int s = threadIdx.x; s < width; s += blockDim.x) {
      R a = none;
      if (t < time && s <= end) {
        if (t == 0) a = s < 2 ? R(0) : none;
        else a = sum(before[s], s > 0 ? before[s - 1] : none, skips(labels, s) ? before[s - 2] : none);
        a += load(here + label(labels, s, blank));
      }
      alpha[row + s] = a;
    }
    __syncthreads();
  }
  if (threadIdx.x > 0) return;
  R loss = end == 0 ? R(0) : infinity<R>();
  if (time > 0) {
    const R* last = alpha + (index_t(time - 1) * n + i) * width;
    loss = -sum(last[end], end > 0 ? last[end - 1] : none, none);
  }
  store(nll + i, loss);
}

// beta[t, n, s], and in its place, when the next step has been made from it, the chance of state s at time t.
template <class T>
__global__ void __launch_bounds__(128, 1) ctc_chances(
    const T* __restrict__ x, const acc_t<T>* __restrict__ alpha, const T* __restrict__ nll,
    const index_t* __restrict__ all_labels, const index_t* __restrict__ times, const index_t* __restrict__ counts,
    acc_t<T>* __restrict__ beta, int steps, int n, int classes, int longest, int blank) {
  using namespace ctc_;
  using R = acc_t<T>;
  const R none = -infinity<R>();
  const int i = blockIdx.x, width = 2 * longest + 1, time = int(times[i]), end = 2 * int(counts[i]);
  const index_t* labels = all_labels + index_t(i) * longest;
  const R loss = load(nll + i);
  for (int t = steps - 1; t >= -1; --t) {
    const index_t row = (index_t(t) * n + i) * width, after = row + index_t(n) * width;
    if (t >= 0)
      for (int s = threadIdx.x; s < width; s += blockDim.x) {
        R b = none;
        if (t < time && s <= end) {
          if (t == time - 1) b = s >= end - 1 ? R(0) : none;
          else
            b = sum(beta[after + s], s + 1 < width ? beta[after + s + 1] : none,
                    s + 2 < width && skips(labels, s + 2) ? beta[after + s + 2] : none);
          b += load(x + (index_t(t) * n + i) * classes + label(labels, s, blank));
        }
        beta[row + s] = b;
      }
    __syncthreads();
    if (t + 1 < steps)
      for (int s = threadIdx.x; s < width; s += blockDim.x) {
        R chance = 0;
        if (t + 1 < time && s <= end) {
          const R emitted = load(x + (index_t(t + 1) * n + i) * classes + label(labels, s, blank));
          if (emitted > none) chance = exp(alpha[after + s] + (beta[after + s] - emitted) + loss);
        }
        beta[after + s] = chance;
      }
    __syncthreads();
  }
}

// dx[t, n, class] = g[n] (e^x - the chances of the class's states). Grid: time, sequence.
template <class T>
__global__ void __launch_bounds__(128, 1) ctc_gradient(
    const T* __restrict__ g, const T* __restrict__ x, const acc_t<T>* __restrict__ chances, const T* __restrict__ nll,
    const index_t* __restrict__ all_labels, const index_t* __restrict__ times, const index_t* __restrict__ counts,
    T* __restrict__ dx, bool zero_infinity, int steps, int n, int classes, int longest, int blank) {
  using R = acc_t<T>;
  const int t = blockIdx.x, i = blockIdx.y, width = 2 * longest + 1, count = int(counts[i]);
  const index_t* labels = all_labels + index_t(i) * longest;
  const R* chance = chances + (index_t(t) * n + i) * width;
  const index_t row = (index_t(t) * n + i) * classes;
  const R scale = load(g + i), loss = load(nll + i);
  R blanks = 0;
  for (int s = 2 * threadIdx.x; s < width; s += 2 * blockDim.x) blanks += chance[s];
  blanks = block_sum(blanks);
  for (int c = threadIdx.x; c < classes; c += blockDim.x) {
    R d = scale * (exp(load(x + row + c)) - (c == blank ? blanks : R(0)));
    if (loss == infinity<R>()) d = zero_infinity ? R(0) : not_a_number<R>();
    store(dx + row + c, t < times[i] ? d : R(0));
  }
  __syncthreads();
  if (t >= times[i] || loss == infinity<R>()) return;
  for (int s = threadIdx.x; s < count; s += blockDim.x) {
    const index_t c = labels[s];
    bool first = c != blank;
    for (int r = 0; r < s && first; ++r) first = labels[r] != c;
    if (!first) continue;
    R sum = 0;
    for (int r = s; r < count; ++r)
      if (labels[r] == c) sum += chance[2 * r + 1];
    store(dx + row + c, scale * (exp(load(x + row + c)) - sum));
  }
}
