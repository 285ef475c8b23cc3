// What elementwise ops compute, one line each: the function has the name and the arguments of its row in
// gradflow/ops/pointwise.py. A is float (for float and half types) or double. The names of CUDA's own functions are
// taken in here, so those are called as ::exp, ::tanh, ...
#pragma once

#define FN template <class A> __device__ __forceinline__

namespace fn {

// ---- parts ----
FN bool nan(A x) { return x != x; }
FN A larger(A a, A b) { return a > b || a != a ? a : b; }  // NaN if one is
FN A smaller(A a, A b) { return a < b || a != a ? a : b; }
FN A logistic(A x) { return A(1) / (A(1) + ::exp(-x)); }
FN A tanh_softplus(A x) { return ::tanh(x > A(20) ? x : A(::log1p(::exp(x)))); }
FN A normal_cdf(A x) { return A(::erfc(x * A(-0.70710678118654752440))) * A(0.5); }  // exact in both tails
FN A gelu_tanh_of(A x) { return ::tanh((x * x * A(0.044715) + A(1)) * x * A(0.79788456080286535588)); }

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
FN A exp(A x) { return ::exp(x); }
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
FN A tanh(A x) { return ::tanh(x); }
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
FN A sigmoid(A x) { return logistic(x); }
FN A sigmoid_backward(A g, A y) { return g * y * (A(1) - y); }
FN A log_sigmoid(A x) { return smaller(x, A(0)) - A(::log1p(::exp(-A(::fabs(x))))); }
FN A relu(A x) { return x <= A(0) ? A(0) : x; }
FN A relu_backward(A g, A y) { return y <= A(0) ? A(0) : g; }
FN A relu6(A x) { return smaller(larger(x, A(0)), A(6)); }
FN A leaky_relu(A x, A negative_slope) { return x > A(0) ? x : x * negative_slope; }
FN A leaky_relu_backward(A g, A x, A negative_slope) { return x > A(0) ? g : g * negative_slope; }
FN A elu(A x, A alpha, A scale, A input_scale) {
  return x > A(0) ? x * scale : A(::expm1(x * input_scale)) * (alpha * scale);
}
FN A elu_backward(A g, A x, A alpha, A scale, A input_scale) {
  return g * (x > A(0) ? scale : A(::exp(x * input_scale)) * (alpha * scale * input_scale));
}
FN A softplus(A x, A beta, A threshold) { return x * beta > threshold ? x : A(::log1p(::exp(x * beta))) / beta; }
FN A softplus_backward(A g, A x, A beta, A threshold) { return x * beta > threshold ? g : g * logistic(x * beta); }
FN A silu(A x) { return x * logistic(x); }
FN A silu_backward(A g, A x) {
  const A s = logistic(x);
  return g * s * (A(1) + x * (A(1) - s));
}
FN A gelu(A x) { return x * normal_cdf(x); }
FN A gelu_tanh(A x) { return x * (A(1) + gelu_tanh_of(x)) * A(0.5); }
FN A gelu_backward(A g, A x) { return g * (normal_cdf(x) + x * A(::exp(x * x * A(-0.5))) * A(0.39894228040143267794)); }
FN A gelu_backward_tanh(A g, A x) {
  const A t = gelu_tanh_of(x), slope = (x * x * A(3 * 0.044715) + A(1)) * A(0.79788456080286535588);
  return g * (A(1) + t + x * (A(1) - t * t) * slope) * A(0.5);
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
FN A mish(A x) { return x * tanh_softplus(x); }
FN A mish_backward(A g, A x) {
  const A t = tanh_softplus(x);
  return g * (t + x * (A(1) - t * t) * logistic(x));
}

}  // namespace fn
#undef FN
