// What elementwise ops compute, one line each: the function has the name and the arguments of its row in
// gradflow/ops/pointwise.py. A is float (for float and half types) or double. The names of CUDA's own functions are
// taken in here, so those are called as ::exp, ::tanh, ...
//
// ROUGH is for results that are rounded to 16 bits: there the exact functions would take longer than the memory, and those
// of the card's approximation unit are exact enough, with a relative error of some 5e-6.
#pragma once

#define FN template <class A, bool ROUGH = false> __device__ __forceinline__

namespace fn {

// ---- parts ----
FN bool nan(A x) { return x != x; }
FN A larger(A a, A b) { return a > b || a != a ? a : b; }  // NaN if one is
FN A smaller(A a, A b) { return a < b || a != a ? a : b; }
FN A power(A x) {  // of e
  if constexpr (ROUGH) return __expf(x);
  else return ::exp(x);
}
FN A ratio(A a, A b) {
  if constexpr (ROUGH) return __fdividef(a, b);
  else return a / b;
}
FN A hyperbolic_tangent(A x) {
  if constexpr (ROUGH) {
    const A u = power<A, true>(A(-2) * ::fabs(x)), xx = x * x;  // near 0 the quotient would cancel: a series
    return ::fabs(x) < A(0.1) ? x - x * xx * (A(1. / 3) - xx * A(2. / 15)) : ::copysign(ratio<A, true>(A(1) - u, A(1) + u), x);
  } else {
    return ::tanh(x);
  }
}
FN A log_of_1_and(A u) {  // log(1 + u), u >= 0
  if constexpr (ROUGH) return u < A(0.01) ? u - u * u * (A(0.5) - u * A(1. / 3)) : __logf(A(1) + u);
  else return ::log1p(u);
}
FN A logistic(A x) { return ratio<A, ROUGH>(A(1), A(1) + power<A, ROUGH>(-x)); }
FN A tanh_softplus(A x) {  // tanh(log(1 + u)) = (u^2 + 2u) / (u^2 + 2u + 2)
  const A u = power<A, ROUGH>(x > A(20) ? A(20) : x), v = u * (u + A(2));
  return ratio<A, ROUGH>(v, v + A(2));
}
FN A normal_cdf(A x) {  // right in both tails
  if constexpr (ROUGH) {  // e^(x^2 / 2) times the tail is a polynomial in t, fitted for a relative error of 5e-6
    const A t = ratio<A, true>(A(1), A(1) + A(0.31) * ::fabs(x));
    const A sum = t * (A(0.12386061) + t * (A(0.12044232) + t * (A(0.13342543) + t * (A(0.015753297) +
                  t * (A(0.18044232) - t * A(0.073926285))))));
    const A tail = sum * power<A, true>(x * x * A(-0.5));
    return x > A(0) ? A(1) - tail : tail;
  } else {
    return A(::erfc(x * A(-0.70710678118654752440))) * A(0.5);
  }
}
FN A gelu_share(A x) {  // (1 + tanh u) / 2 = 1 / (1 + e^-2u), which does not cancel
  return logistic<A, ROUGH>((x * x * A(0.044715) + A(1)) * x * A(2 * 0.79788456080286535588));
}

// ---- arithmetic ----
FN A add(A a, A b) { return a + b; }
FN A sub(A a, A b) { return a - b; }
FN A mul(A a, A b) { return a * b; }
FN A div(A a, A b) { return a / b; }
FN A neg(A x) { return -x; }
FN A positive(A x) { return x; }
FN A square(A x) { return x * x; }
FN A reciprocal(A x) { return A(1) / x; }
FN A abs(A x) { return ::fabs(x); }
FN A sign(A x) { return A((x > A(0)) - (x < A(0))); }
FN A fmod(A a, A b) { return ::fmod(a, b); }
FN A remainder(A a, A b) {
  const A r = ::fmod(a, b);
  return r == A(0) ? A(::copysign(A(0), b)) : (r < A(0)) != (b < A(0)) ? r + b : r;
}
FN A floor_divide(A a, A b) {
  if (b == A(0)) return a / b;
  const A r = ::fmod(a, b), whole = (a - r) / b - A(r != A(0) && (r < A(0)) != (b < A(0)));
  const A down = ::floor(whole);
  return whole == A(0) ? A(::copysign(A(0), a / b)) : whole - down > A(0.5) ? down + A(1) : down;
}
FN A pow(A a, A b) { return ::pow(a, b); }

// ---- comparison ----
FN bool eq(A a, A b) { return a == b; }
FN bool ne(A a, A b) { return a != b; }
FN bool lt(A a, A b) { return a < b; }
FN bool le(A a, A b) { return a <= b; }
FN bool gt(A a, A b) { return a > b; }
FN bool ge(A a, A b) { return a >= b; }
FN bool logical_and(A a, A b) { return a != A(0) && b != A(0); }
FN bool logical_or(A a, A b) { return a != A(0) || b != A(0); }
FN bool logical_xor(A a, A b) { return (a != A(0)) != (b != A(0)); }
FN bool logical_not(A x) { return x == A(0); }
FN bool isnan(A x) { return x != x; }
FN bool isinf(A x) { return x == x && x - x != A(0); }
FN bool isfinite(A x) { return x - x == A(0); }

// ---- exponentials, roots, trigonometry, hyperbolics ----
FN A exp(A x) { return power<A, ROUGH>(x); }
FN A exp2(A x) { return ::exp2(x); }
FN A expm1(A x) { return ::expm1(x); }
FN A log(A x) { return ::log(x); }
FN A log2(A x) { return ::log2(x); }
FN A log10(A x) { return ::log10(x); }
FN A log1p(A x) { return ::log1p(x); }
FN A sqrt(A x) { return ::sqrt(x); }
FN A rsqrt(A x) { return A(1) / A(::sqrt(x)); }
FN A sin(A x) { return ::sin(x); }
FN A cos(A x) { return ::cos(x); }
FN A tan(A x) { return ::tan(x); }
FN A asin(A x) { return ::asin(x); }
FN A acos(A x) { return ::acos(x); }
FN A atan(A x) { return ::atan(x); }
FN A sinh(A x) { return ::sinh(x); }
FN A cosh(A x) { return ::cosh(x); }
FN A tanh(A x) { return hyperbolic_tangent<A, ROUGH>(x); }
FN A tanh_backward(A g, A y) { return g - g * y * y; }
FN A asinh(A x) { return ::asinh(x); }
FN A acosh(A x) { return ::acosh(x); }
FN A atanh(A x) { return ::atanh(x); }
FN A atan2(A a, A b) { return ::atan2(a, b); }
FN A hypot(A a, A b) { return ::hypot(a, b); }
FN A logaddexp(A a, A b) {
  const A d = ::fabs(a - b);
  return a == b ? a + A(0.69314718055994530942) : larger(a, b) + A(::log1p(::exp(-d)));
}
FN A erf(A x) { return ::erf(x); }
FN A erfc(A x) { return ::erfc(x); }

// ---- rounding ----
FN A floor(A x) { return ::floor(x); }
FN A ceil(A x) { return ::ceil(x); }
FN A trunc(A x) { return ::trunc(x); }
FN A frac(A x) { return x - A(::trunc(x)); }
FN A round(A x) { return ::rint(x); }

// ---- choosing ----
FN A maximum(A a, A b) { return larger(a, b); }
FN A minimum(A a, A b) { return smaller(a, b); }
FN A fmax(A a, A b) { return ::fmax(a, b); }
FN A fmin(A a, A b) { return ::fmin(a, b); }

// ---- activations ----
FN A sigmoid(A x) { return logistic<A, ROUGH>(x); }
FN A sigmoid_backward(A g, A y) { return g * y * (A(1) - y); }
FN A log_sigmoid(A x) { return smaller(x, A(0)) - log_of_1_and<A, ROUGH>(power<A, ROUGH>(-A(::fabs(x)))); }
FN A relu(A x) { return x <= A(0) ? A(0) : x; }
FN A relu_backward(A g, A y) { return y <= A(0) ? A(0) : g; }
FN A relu6(A x) { return smaller(larger(x, A(0)), A(6)); }
FN A leaky_relu(A x, A negative_slope) { return x > A(0) ? x : x * negative_slope; }
FN A leaky_relu_backward(A g, A x, A negative_slope) { return x > A(0) ? g : g * negative_slope; }
FN A elu(A x, A alpha, A scale, A input_scale) {
  return x > A(0) ? x * scale : A(::expm1(x * input_scale)) * (alpha * scale);
}
FN A elu_backward(A g, A x, A alpha, A scale, A input_scale) {
  return g * (x > A(0) ? scale : power<A, ROUGH>(x * input_scale) * (alpha * scale * input_scale));
}
FN A softplus(A x, A beta, A threshold) { return x * beta > threshold ? x : log_of_1_and<A, ROUGH>(power<A, ROUGH>(x * beta)) / beta; }
FN A softplus_backward(A g, A x, A beta, A threshold) { return x * beta > threshold ? g : g * logistic<A, ROUGH>(x * beta); }
FN A silu(A x) { return x * logistic<A, ROUGH>(x); }
FN A silu_backward(A g, A x) {
  const A s = logistic<A, ROUGH>(x);
  return g * s * (A(1) + x * (A(1) - s));
}
FN A gelu(A x) { return x * normal_cdf<A, ROUGH>(x); }
FN A gelu_tanh(A x) { return x * gelu_share<A, ROUGH>(x); }
FN A gelu_backward(A g, A x) {
  return g * (normal_cdf<A, ROUGH>(x) + x * power<A, ROUGH>(x * x * A(-0.5)) * A(0.39894228040143267794));
}
FN A gelu_backward_tanh(A g, A x) {
  const A s = gelu_share<A, ROUGH>(x), slope = (x * x * A(3 * 0.044715) + A(1)) * A(2 * 0.79788456080286535588);
  return g * (s + x * s * (A(1) - s) * slope);
}
FN A hardtanh(A x, A min_val, A max_val) { return smaller(larger(x, min_val), max_val); }
FN A hardtanh_backward(A g, A x, A min_val, A max_val) { return x <= min_val || x >= max_val ? A(0) : g; }
FN A hardsigmoid(A x) { return smaller(larger(x + A(3), A(0)), A(6)) / A(6); }
FN A hardswish(A x) { return x * hardsigmoid(x); }
FN A softsign(A x) { return x / (A(1) + A(::fabs(x))); }
FN A tanhshrink(A x) { return x - A(::tanh(x)); }
FN A softshrink(A x, A lambd) { return x - smaller(larger(x, -lambd), lambd); }
FN A hardshrink(A x, A lambd) { return x > lambd || x < -lambd || nan(x) ? x : x * A(0); }
FN A threshold(A x, A threshold, A value) { return x > threshold ? x : value; }
FN A mish(A x) { return x * tanh_softplus<A, ROUGH>(x); }
FN A mish_backward(A g, A x) {
  const A t = tanh_softplus<A, ROUGH>(x);
  return g * (t + x * (A(1) - t * t) * logistic<A, ROUGH>(x));
}

}  // namespace fn
#undef FN
