// Optimizer steps, clipping, and the norm of all gradients: one launch for all the parameters of a model.
//
// The parameters stand in a table (table.cuh). A rule is a function of one element: each() streams p, g and up to three state
// arrays through it, 16 bytes at a time where addresses allow. All arithmetic is in acc_t<T>; what depends on the step alone
// is worked out in double.
//
// Numbers that change while a CUDA graph is replayed (a learning rate, a momentum) come as an address and a value: the value
// counts where the address is null. Counts of steps may be cells of the table. A gradient scaler gives the addresses of its
// scale, by which gradients are divided, and of what it found: a step with an infinite gradient leaves everything as it is.
#include "table.cuh"

__device__ __forceinline__ double value(const double* at, double otherwise) { return at ? *at : otherwise; }
__device__ __forceinline__ double cell(const row& r, int i, double otherwise) {
  return r.cell[i] ? double(*reinterpret_cast<const float*>(r.cell[i])) : otherwise;
}

// What gradients are multiplied by: -1 to climb, divided by their scale.
__device__ __forceinline__ double factor(bool maximize, const float* scale) {
  return (maximize ? -1.0 : 1.0) / (scale ? double(*scale) : 1.0);
}

// The gradient with weight decay; without it, an infinite p does not become NaN.
template <class A> __device__ __forceinline__ A decayed(A g, A decay, A p) { return decay != 0 ? g + decay * p : g; }

// ---- update rules -----------------------------------------------------------------------------------------------------

template <class T, bool momentum>
__global__ void __launch_bounds__(THREADS, 2) sgd(
    const row* rows, int count, const float* scale, const float* found_inf, const double* lr_at, double lr_value,
    const double* rate_at, double rate_value, double damping, double weight_decay, bool nesterov, bool first, bool
    maximize) {
  using A = acc_t<T>;
  const row r = my_row(rows, count, found_inf);
  const A lr = value(lr_at, lr_value), mu = value(rate_at, rate_value), keep = 1 - damping;
  const A decay = weight_decay, sign = factor(maximize, scale);
  each<T, momentum, true>(r, [=](A p, A g, A* s) {
    g = decayed(sign * g, decay, p);
    if (momentum) {
      s[0] = first ? g : mu * s[0] + keep * g;
      g = nesterov ? g + mu * s[0] : s[0];
    }
    return p - lr * g;
  });
}

template <class T, bool amsgrad>
__global__ void __launch_bounds__(THREADS, 2) adam(
    const row* rows, int count, const float* scale, const float* found_inf, const double* lr_at, double lr_value,
    double step, const double* beta1_at, double beta1_value, double beta2, double eps, double weight_decay, bool
    decoupled, bool maximize) {
  using A = acc_t<T>;
  const row r = my_row(rows, count, found_inf);
  const double beta1 = value(beta1_at, beta1_value);
  __shared__ double bias[2];
  if (threadIdx.x < 2)
    bias[threadIdx.x] = 1 - pow(threadIdx.x ? beta2 : beta1, cell(r, 0, step));
  __syncthreads();
  const double lr = value(lr_at, lr_value);
  const A rate = lr / bias[0], root = 1 / sqrt(bias[1]), small = eps;
  const A b1 = beta1, b2 = beta2, c1 = 1 - beta1, c2 = 1 - beta2;
  const A shrink = decoupled ? 1 - lr * weight_decay : 1, decay = decoupled ? 0 : weight_decay,
          sign = factor(maximize, scale);
  each<T, amsgrad ? 3 : 2, true>(r, [=](A p, A g, A* s) {
    g = decayed(sign * g, decay, p);
    s[0] = b1 * s[0] + c1 * g;
    s[1] = b2 * s[1] + c2 * (g * g);
    if (amsgrad) s[2] = nan_max(s[2], s[1]);
    return shrink * p - rate * s[0] / (sqrt(amsgrad ? s[2] : s[1]) * root + small);
  });
}

// The states are v, then momentum's m, then the mean for the centred form, as far as they are there.
template <class T, bool momentum, bool centered>
__global__ void __launch_bounds__(THREADS, 2) rmsprop(
    const row* rows, int count, const float* scale, const float* found_inf, const double* lr_at, double lr_value,
    double alpha, double eps, double weight_decay, const double* rate_at, double rate_value, bool maximize) {
  using A = acc_t<T>;
  const row r = my_row(rows, count, found_inf);
  const A lr = value(lr_at, lr_value), a = alpha, b = 1 - alpha, small = eps, decay = weight_decay,
          mu = value(rate_at, rate_value);
  const A sign = factor(maximize, scale);
  each<T, 1 + momentum + centered, true>(r, [=](A p, A g, A* s) {
    g = decayed(sign * g, decay, p);
    A v = s[0] = a * s[0] + b * (g * g);
    if (centered) {
      A& mean = s[momentum ? 2 : 1];
      mean += b * (g - mean);
      v -= mean * mean;
    }
    A step = g / (sqrt(v) + small);
    if (momentum) step = s[1] = mu * s[1] + step;
    return p - lr * step;
  });
}

template <class T>
__global__ void __launch_bounds__(THREADS, 2) adagrad(
    const row* rows, int count, const float* scale, const float* found_inf, const double* lr_at, double lr_value,
    double step, double lr_decay, double weight_decay, double eps, bool maximize) {
  using A = acc_t<T>;
  const row r = my_row(rows, count, found_inf);
  const double t = cell(r, 0, step);
  const A lr = value(lr_at, lr_value) / (1 + (t - 1) * lr_decay), decay = weight_decay, small = eps;
  const A sign = factor(maximize, scale);
  each<T, 1, true>(r, [=](A p, A g, A* s) {
    g = decayed(sign * g, decay, p);
    s[0] += g * g;
    return p - lr * g / (sqrt(s[0]) + small);
  });
}

// The states are the running means of g^2 and of the steps' squares.
template <class T>
__global__ void __launch_bounds__(THREADS, 2) adadelta(
    const row* rows, int count, const float* scale, const float* found_inf, const double* lr_at, double lr_value,
    double rho, double eps, double weight_decay, bool maximize) {
  using A = acc_t<T>;
  const row r = my_row(rows, count, found_inf);
  const A lr = value(lr_at, lr_value), a = rho, b = 1 - rho, small = eps, decay = weight_decay,
          sign = factor(maximize, scale);
  each<T, 2, true>(r, [=](A p, A g, A* s) {
    g = decayed(sign * g, decay, p);
    s[0] = a * s[0] + b * (g * g);
    const A step = sqrt(s[1] + small) / sqrt(s[0] + small) * g;
    s[1] = a * s[1] + b * (step * step);
    return p - lr * step;
  });
}

// The states are the running mean m and the running maximum u.
template <class T>
__global__ void __launch_bounds__(THREADS, 2) adamax(
    const row* rows, int count, const float* scale, const float* found_inf, const double* lr_at, double lr_value,
    double step, const double* beta1_at, double beta1_value, double beta2, double eps, double weight_decay, bool
    maximize) {
  using A = acc_t<T>;
  const row r = my_row(rows, count, found_inf);
  const double beta1 = value(beta1_at, beta1_value);
  __shared__ double bias;
  if (threadIdx.x == 0) bias = 1 - pow(beta1, cell(r, 0, step));
  __syncthreads();
  const A rate = value(lr_at, lr_value) / bias, b1 = beta1, b2 = beta2, c1 = 1 - beta1, small = eps;
  const A decay = weight_decay,
          sign = factor(maximize, scale);
  each<T, 2, true>(r, [=](A p, A g, A* s) {
    g = decayed(sign * g, decay, p);
    s[0] = b1 * s[0] + c1 * g;
    s[1] = nan_max(b2 * s[1], (g < 0 ? -g : g) + small);
    return p - rate * s[0] / s[1];
  });
}

__device__ __forceinline__ double momentum(double step, double beta1, double decay) {
  return beta1 * (1 - 0.5 * pow(0.96, step * decay));
}

// The cells are the count of steps and the product of momentums so far.
template <class T>
__global__ void __launch_bounds__(THREADS, 2) nadam(
    const row* rows, int count, const float* scale, const float* found_inf, const double* lr_at, double lr_value,
    double step, double product, const double* beta1_at, double beta1_value, double beta2, double eps, double
    weight_decay, double momentum_decay, bool decoupled, bool maximize) {
  using A = acc_t<T>;
  const row r = my_row(rows, count, found_inf);
  const double beta1 = value(beta1_at, beta1_value);
  __shared__ double root, of_g, of_m;
  if (threadIdx.x == 0) {
    const double t = cell(r, 0, step), so_far = cell(r, 1, product), next = momentum(t + 1, beta1, momentum_decay);
    root = sqrt(1 - pow(beta2, t));
    of_g = (1 - momentum(t, beta1, momentum_decay)) / (1 - so_far);
    of_m = next / (1 - so_far * next);
  }
  __syncthreads();
  const double lr = value(lr_at, lr_value);
  const A kg = lr * root * of_g, km = lr * root * of_m, small = eps * root;
  const A b1 = beta1, b2 = beta2, c1 = 1 - beta1, c2 = 1 - beta2,
          sign = factor(maximize, scale);
  const A shrink = decoupled ? 1 - lr * weight_decay : 1, decay = decoupled ? 0 : weight_decay;
  each<T, 2, true>(r, [=](A p, A g, A* s) {
    g = decayed(sign * g, decay, p);
    s[0] = b1 * s[0] + c1 * g;
    s[1] = b2 * s[1] + c2 * (g * g);
    return shrink * p - (kg * g + km * s[0]) / (sqrt(s[1]) + small);
  });
}

template <class T>
__global__ void __launch_bounds__(THREADS, 2) radam(
    const row* rows, int count, const float* scale, const float* found_inf, const double* lr_at, double lr_value,
    double step, const double* beta1_at, double beta1_value, double beta2, double eps, double weight_decay, bool
    decoupled, bool maximize) {
  using A = acc_t<T>;
  const row r = my_row(rows, count, found_inf);
  const double beta1 = value(beta1_at, beta1_value);
  __shared__ double bias1, rect;  // rect is 0 while v is not to be trusted
  if (threadIdx.x == 0) {
    const double t = cell(r, 0, step), most = 2 / (1 - beta2) - 1, b2t = pow(beta2, t), bias2 = 1 - b2t;
    const double n = most - 2 * t * b2t / bias2;
    bias1 = 1 - pow(beta1, t);
    rect = n > 5 ? sqrt((n - 4) * (n - 2) * most / ((most - 4) * (most - 2) * n) * bias2) : 0;
  }
  __syncthreads();
  const double lr = value(lr_at, lr_value);
  const bool adaptive = rect != 0;
  const A rate = lr / bias1 * (adaptive ? rect : 1), small = eps;
  const A b1 = beta1, b2 = beta2, c1 = 1 - beta1, c2 = 1 - beta2,
          sign = factor(maximize, scale);
  const A shrink = decoupled ? 1 - lr * weight_decay : 1, decay = decoupled ? 0 : weight_decay;
  each<T, 2, true>(r, [=](A p, A g, A* s) {
    g = decayed(sign * g, decay, p);
    s[0] = b1 * s[0] + c1 * g;
    s[1] = b2 * s[1] + c2 * (g * g);
    return shrink * p - (adaptive ? rate * s[0] / (sqrt(s[1]) + small) : rate * s[0]);
  });
}

// The states are the gradient before and the size of each step.
template <class T>
__global__ void __launch_bounds__(THREADS, 2) rprop(
    const row* rows, int count, const float* scale, const float* found_inf, double shrink_, double grow_, double
    least_, double most_, bool maximize) {
  using A = acc_t<T>;
  const A shrink = shrink_, grow = grow_, least = least_, most = most_,
          sign = factor(maximize, scale);
  each<T, 2, true>(my_row(rows, count, found_inf), [=](A p, A g, A* s) {
    g *= sign;
    const A turn = g * s[0];
    s[1] = nan_min(nan_max(turn > 0 ? s[1] * grow : turn < 0 ? s[1] * shrink : s[1], least), most);
    s[0] = turn < 0 ? A(0) : g;
    return p - (s[0] > 0 ? s[1] : s[0] < 0 ? -s[1] : s[0] * s[1]);  // 0 where g counts as 0, NaN where it is NaN
  });
}

// The state is the mean of the parameters; the cells are its weight mu and the rate eta.
template <class T>
__global__ void __launch_bounds__(THREADS, 2) asgd(
    const row* rows, int count, const float* scale, const float* found_inf, double eta_value, double mu_value,
    double lambd, double weight_decay, bool maximize) {
  using A = acc_t<T>;
  const row r = my_row(rows, count, found_inf);
  const double rate = cell(r, 0, eta_value);
  const A eta = rate, mu = cell(r, 1, mu_value), shrink = 1 - lambd * rate, decay = weight_decay,
          sign = factor(maximize, scale);
  each<T, 1, true>(r, [=](A p, A g, A* s) {
    p = shrink * p - eta * decayed(sign * g, decay, p);
    s[0] = mu == 1 ? p : s[0] + (p - s[0]) * mu;
    return p;
  });
}

// What follows from counts of steps, here g, that live on the card: products of NAdam's momentums, ASGD's next rates.
template <class T>
__global__ void __launch_bounds__(THREADS, 2) momentum_product(
    const row* rows, int count, const float* found_inf, const double* beta1_at, double beta1_value, double
    momentum_decay) {
  using A = acc_t<T>;
  const double beta1 = value(beta1_at, beta1_value);
  each<T, 0, true>(my_row(rows, count, found_inf),
                   [=](A p, A g, A*) { return A(p * momentum(g, beta1, momentum_decay)); });
}

template <class T>
__global__ void __launch_bounds__(THREADS, 2) asgd_rates(
    const row* rows, int count, const float* found_inf, const double* lr_at, double lr_value, double lambd, double
    alpha, double t0) {
  using A = acc_t<T>;
  const double lr = value(lr_at, lr_value);
  each<T, 1, true>(my_row(rows, count, found_inf), [=](A, A g, A* s) {
    s[0] = 1 / nan_max(A(1), A(g - t0));
    return A(lr / pow(1 + lambd * lr * g, alpha));
  });
}

// Counts of steps that live on the card.
template <class T>
__global__ void __launch_bounds__(THREADS, 2) count_step(const row* rows, int count, const float* found_inf) {
  using A = acc_t<T>;
  each<T, 0, false>(my_row(rows, count, found_inf), [=](A p, A, A*) { return p + A(1); });
}

// Averages of weights: p moved towards g.
template <class T> __global__ void __launch_bounds__(THREADS, 2) blend(const row* rows, int count, double weight_) {
  using A = acc_t<T>;
  const A weight = weight_;
  each<T, 0, true>(my_row(rows, count), [=](A p, A g, A*) { return p + weight * (g - p); });
}

// ---- clipping ---------------------------------------------------------------------------------------------------------

// Gradients times most / norm where that is below one. The norm is read where the reduction left it.
template <class T>
__global__ void __launch_bounds__(THREADS, 2) scale_gradient(
    const row* rows, int count, const acc_t<T>* norm, double most) {
  using A = acc_t<T>;
  const A by = nan_min(A(most) / (*norm + A(1e-6)), A(1));
  each<T, 0, false>(my_row(rows, count), [=](A p, A, A*) { return p * by; });
}

template <class T>
__global__ void __launch_bounds__(THREADS, 2) clamp_gradient(const row* rows, int count, double low, double high) {
  using A = acc_t<T>;
  const A l = low, h = high;
  each<T, 0, false>(my_row(rows, count), [=](A p, A, A*) { return p < l ? l : p > h ? h : p; });
}

enum { ABSOLUTE = 1, SQUARE = 2, GREATEST = 3 };  // the 1-norm, the 2-norm, the maximum norm

// What each block's chunk adds to the norm, and then the norm of all: both in an order that depends on sizes alone.
template <class T, int kind>
__global__ void __launch_bounds__(THREADS, 2) norm_parts(const row* rows, int count, double* parts) {
  const row r = my_row(rows, count);
  const T* p = chunk<T>(r, r.p);
  const int n = chunk_size(r);
  double sum = 0;
  const auto add = [&](T v) {
    const acc_t<T> x = to_acc<T>(v), a = x < 0 ? -x : x;
    sum = kind == GREATEST ? nan_max(sum, double(a)) : sum + (kind == SQUARE ? double(a) * double(a) : double(a));
  };
  constexpr int N = pack_size<T>;
  const int packed = r.p % 16 ? 0 : n / N * N;
#pragma unroll 2
  for (int i = threadIdx.x * N; i < packed; i += THREADS * N) {
    const pack<T, N> v = *reinterpret_cast<const pack<T, N>*>(p + i);
#pragma unroll
    for (int j = 0; j < N; ++j) add(v.v[j]);
  }
  for (int i = packed + threadIdx.x; i < n; i += THREADS) add(p[i]);
  sum = kind == GREATEST ? block_max(sum) : block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

template <class A, int kind>
__global__ void __launch_bounds__(THREADS, 2) norm_whole(const double* parts, index_t n, A* norm) {
  double sum = 0;
  for (index_t i = threadIdx.x; i < n; i += THREADS) sum = kind == GREATEST ? nan_max(sum, parts[i]) : sum + parts[i];
  sum = kind == GREATEST ? block_max(sum) : block_sum(sum);
  if (threadIdx.x == 0) *norm = A(kind == SQUARE ? sqrt(sum) : sum);
}
