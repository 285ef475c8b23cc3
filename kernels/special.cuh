// What special functions compute: the same regions and the same coefficients as gradflow/ops/special_*.py, logs.py and
// signs.py, function by function. A is float or double.
#pragma once
#include "pointwise.cuh"
#include "special_tables.cuh"

#define FN template <class A> __device__ __forceinline__
#define HEAVY template <class A> __device__ __noinline__

namespace fn {

// ---- parts ----
template <class A> __device__ __forceinline__ A infinite() { return A(__int_as_float(0x7f800000)); }
template <class A> __device__ __forceinline__ A undefined() { return A(__int_as_float(0x7fc00000)); }
template <class A> __device__ __forceinline__ A fraction(A x) { return x - A(::rint(x)); }
template <class A> constexpr A pi = A(3.14159265358979323846);
template <class A> constexpr A root_half = A(0.70710678118654752440);
template <class A> constexpr A root_pi = A(1.77245385090551602730);
// where x lies between low and high, from -1 to 1
template <class A> __device__ __forceinline__ A along(A x, A low, A high) { return (x - (low + high) / A(2)) * (A(2) / (high - low)); }

// ---- logarithms, signs ----
FN A xlogy(A a, A b) { return a == A(0) && b == b ? a * A(0) : a * A(::log(b)); }
FN A xlog1py(A a, A b) { return a == A(0) && b == b ? a * A(0) : a * A(::log1p(b)); }
FN A entr(A x) { return nan(x) ? x : x > A(0) ? -x * A(::log(x)) : x == A(0) ? A(0) : -infinite<A>(); }
FN A odds(A x) { return ::log(x / (A(1) - x)); }
FN A logaddexp2(A a, A b) {
  const A d = ::fabs(a - b);
  return a == b ? a + A(1) : larger(a, b) + A(::log1p(::exp2(-d))) * A(1.44269504088896340736);
}
FN A copysign(A a, A b) { return ::copysign(a, b); }
FN A deg2rad(A x) { return x * (pi<A> / A(180)); }
FN A rad2deg(A x) { return x * (A(180) / pi<A>); }

// From here on a function takes hundreds of instructions: it is called, not written out for each of a thread's 16 values.
#undef FN
#define FN HEAVY

// ---- the gamma function's family ----
FN A lgamma(A x) { return ::lgamma(x); }
FN A digamma(A x) {
  if (x == A(0)) return ::copysign(infinite<A>(), -x);
  A y = x < A(0) ? A(1) - x : x, total = A(0);
  for (; y < A(10); y += A(1)) total += A(1) / y;
  const A z = A(1) / (y * y);
  y = A(::log(y)) - A(0.5) / y - z * table::digamma_far(z) - total;
  if (x > A(0)) return y;
  const A f = fraction(x);
  return f == A(0) ? undefined<A>() : y - pi<A> / A(::tan(pi<A> * f));
}
HEAVY A zeta_right(A s, A q) {  // q > 0
  A total = A(0), a = q;
  for (int k = 0; k < 9; ++k, a += A(1)) total += A(::pow(a, -s));
  const A last = ::pow(a, -s);
  return last == A(0) ? total : total + last * (a / (s - A(1)) + A(0.5) + table::euler(s, A(1) / (a * a), s / a));
}
FN A zeta(A a, A b) {
  if (nan(a) || nan(b)) return undefined<A>();
  if (a == A(1)) return infinite<A>();
  if (a < A(1)) return undefined<A>();
  if (b > A(0)) return zeta_right(a, b);
  if (b == A(::floor(b))) return infinite<A>();
  const A f = -b - A(::floor(-b));
  if (a != A(::floor(a))) return undefined<A>();
  const A below = zeta_right(a, f) - zeta_right(a, A(1) - b);
  return (A(::fmod(a, A(2))) == A(0) ? below : -below) + zeta_right(a, A(1) - f);
}
FN A polygamma_of(A x, A n) {
  if (n == A(0)) return digamma(x);
  const A y = zeta(n + A(1), x) * A(::tgamma(n + A(1)));
  return A(::fmod(n, A(2))) == A(0) ? -y : y;
}

// ---- the incomplete gamma functions ----
template <class A> constexpr A close = sizeof(A) == 8 ? A(1e-17) : A(1e-9);
FN A exponent_(A a, A x) {  // u - log(1 + u) of u = x / a - 1
  const A u = (x - a) / a, r = u / (A(2) + u), z = r * r;
  if (A(::fabs(u)) >= A(0.4)) return u - A(::log(x / a));
  A tail = A(0);
#pragma unroll
  for (int k = 11; k >= 0; --k) tail = tail * z + A(1) / A(2 * k + 3);
  return r * u - A(2) * r * z * tail;
}
FN A density_(A a, A x) {  // x^a e^-x / gamma(a + 1)
  if (a < A(8)) return ::exp(a * A(::log(x)) - x - A(::lgamma(a + A(1))));
  return A(::exp(-a * exponent_(a, x) - table::stirling(A(1) / (a * a)) / a)) / A(::sqrt(A(2) * pi<A> * a));
}
FN A gamma_series_(A a, A x) {  // P
  A term = A(1), total = A(1);
  for (int k = 1; k < 5000 && term > total * close<A>; ++k) total += term *= x / (a + A(k));
  return density_(a, x) * total;
}
FN A gamma_fraction_(A a, A x) {  // Q, by Lentz's method
  const A tiny = A(1e-30), end = sizeof(A) == 8 ? A(1e-16) : A(1e-7);
  A b = x + A(1) - a, c = A(1) / tiny, d = A(1) / b, f = d;
  for (int k = 1; k < 5000; ++k) {
    const A step = -A(k) * (A(k) - a);
    b += A(2);
    d = step * d + b;
    c = b + step / c;
    d = A(1) / (d == A(0) ? tiny : d);
    f *= c * d;
    if (A(::fabs(c * d - A(1))) < end) break;
  }
  return density_(a, x) * a * f;
}
FN A gamma_uniform_(A a, A x, A sign) {  // Temme's expansion: Q for sign 1, P for -1
  const A half = exponent_(a, x), eta = ::copysign(::sqrt(A(2) * larger(half, A(0))), x - a);
  const A rest = A(::exp(-a * half)) / A(::sqrt(A(2) * pi<A> * a)) * table::temme(eta, A(1) / a);
  return A(0.5) * A(::erfc(sign * eta * A(::sqrt(a / A(2))))) + sign * rest;
}
FN A gamma_small_(A a, A x) {  // Q for a and x below 1
  const A power = a * A(::log(x)) - A(::lgamma(a + A(1)));
  A term = A(1), total = A(0);
  for (int k = 1; k < 24; ++k) total += (term *= -x / A(k)) / (a + A(k));
  return -A(::expm1(power)) - A(::exp(power)) * a * total;
}
HEAVY A gammas_(A a, A x, bool upper) {
  const A top = infinite<A>();
  if (!(a >= A(0)) || !(x >= A(0)) || (a == A(0) && x == A(0)) || (a == top && x == top)) return undefined<A>();
  if (x == A(0) || a == top) return A(upper);
  if (a == A(0) || x == top) return A(!upper);
  if (upper && x < A(1) && a < A(1)) return gamma_small_(a, x);
  if (a >= A(100) && A(::fabs(x - a)) < A(0.35) * a) return gamma_uniform_(a, x, upper ? A(1) : A(-1));
  const bool series = x < larger(a, A(1)) + A(a > A(1));
  const A y = series ? gamma_series_(a, x) : gamma_fraction_(a, x);
  return series != upper ? y : A(1) - y;
}
FN A igamma(A a, A b) { return gammas_(a, b, false); }
FN A igammac(A a, A b) { return gammas_(a, b, true); }

// ---- the error function's relatives ----
FN A erfcx_right(A x) {  // x >= 0
  if (x == A(0)) return A(1);
  const A t = x < A(1e30) ? (x - A(3.75)) / (x + A(3.75)) : nan(x) ? x : A(1);
  return table::erfcx(t) / (A(1) + A(2) * x);
}
FN A square_exp_(A x, A c) {  // e^(c x^2) without the error of squaring x
  const A h = A(::rint(x * A(64))) / A(64);
  return A(::exp(c * h * h)) * A(::exp(c * (x - h) * (x + h)));
}
FN A erfcx(A x) {
  const A y = erfcx_right(A(::fabs(x)));
  return !(x < A(0)) ? y : x < A(-27) ? infinite<A>() : A(2) * square_exp_(x, A(1)) - y;
}
FN A quantile_(A log_p) {
  const A r = ::sqrt(A(-2) * log_p);
  if (r < A(4)) return table::quantile_near(along(r, A(1.6), A(4)));
  return r < A(10) ? table::quantile_far(along(r, A(4), A(10))) : table::quantile_end(along(r, A(10), A(40)));
}
FN A erfinv(A x) {
  const A t = ::fabs(x);
  if (!(t < A(1))) return t == A(1) ? ::copysign(infinite<A>(), x) : undefined<A>();
  const A y = t <= A(0.5) ? t * table::erfinv_middle(along(t * t, A(0), A(0.25)))
                          : root_half<A> * quantile_(A(::log((A(1) - t) / A(2))));
  return ::copysign(y, x);
}
FN A ndtr(A x) {
  if (nan(x)) return x;
  const A t = smaller(A(::fabs(x)), A(40)), tail = A(0.5) * erfcx_right(t * root_half<A>) * square_exp_(t, A(-0.5));
  return x < A(0) ? tail : A(1) - tail;
}
FN A ndtri(A x) {
  if (!(x > A(0) && x < A(1))) return x == A(0) ? -infinite<A>() : x == A(1) ? infinite<A>() : undefined<A>();
  const A q = smaller(x, A(1) - x), d = A(2) * q - A(1);
  const A y = q >= A(0.25) ? table::erfinv_middle(along(d * d, A(0), A(0.25))) * -d / root_half<A> : quantile_(A(::log(q)));
  return x > A(0.5) ? y : -y;
}
FN A log_ndtr(A x) {
  if (x < A(-1)) return A(::log(erfcx_right(-x * root_half<A>) * A(0.5))) - x * x * A(0.5);
  return ::log1p(A(-0.5) * A(::erfc(x * root_half<A>)));
}

// ---- J and Y ----
FN A wave_(A x, int order, bool second) {  // x >= 8
  const A v = A(64) / (x * x), t = along(v, A(0), A(1)), c = ::cos(x), s = ::sin(x);
  const A p = order ? table::p1_far(t) : table::p0_far(t), q = (order ? table::q1_far(t) : table::q0_far(t)) / x;
  const A cos = order ? s - c : c + s, sin = order ? -s - c : s - c;
  return (second ? p * sin + q * cos : p * cos - q * sin) / (root_pi<A> * A(::sqrt(x)));
}
HEAVY A bessel_j0(A x) {
  const A t = ::fabs(x);
  return t <= A(8) ? table::j0_near(along(t * t, A(0), A(64))) : wave_(t, 0, false);
}
HEAVY A bessel_j1(A x) {
  const A t = ::fabs(x), y = t <= A(8) ? t * table::j1_near(along(t * t, A(0), A(64))) : wave_(t, 1, false);
  return x < A(0) ? -y : y;
}
HEAVY A bessel_y0(A x) {
  if (x < A(0)) return undefined<A>();
  if (!(x <= A(8))) return wave_(x, 0, true);
  return table::y0_near(along(x * x, A(0), A(64))) + A(::log(x)) * (A(2) / pi<A>) * bessel_j0(x);
}
HEAVY A bessel_y1(A x) {
  if (x < A(0)) return undefined<A>();
  if (x == A(0)) return -infinite<A>();
  if (!(x <= A(8))) return wave_(x, 1, true);
  return x * table::y1_near(along(x * x, A(0), A(64))) + (A(2) / pi<A>) * (A(::log(x)) * bessel_j1(x) - A(1) / x);
}

// ---- I and K ----
FN A i0e(A x) {
  const A t = ::fabs(x);
  return t <= A(8) ? table::i0_near(along(t, A(0), A(8))) : table::i0_far(along(A(8) / t, A(0), A(1))) / A(::sqrt(t));
}
FN A i1e(A x) {
  const A t = ::fabs(x);
  const A y = t <= A(8) ? t * table::i1_near(along(t, A(0), A(8))) : table::i1_far(along(A(8) / t, A(0), A(1))) / A(::sqrt(t));
  return x < A(0) ? -y : y;
}
FN A i0(A x) { return A(::exp(A(::fabs(x)))) * i0e(x); }
FN A i1(A x) { return A(::exp(A(::fabs(x)))) * i1e(x); }
FN A scaled_modified_bessel_k0(A x) {
  if (!(x > A(0))) return x == A(0) ? infinite<A>() : undefined<A>();
  if (x > A(2)) return table::k0_far(along(A(2) / x, A(0), A(1))) / A(::sqrt(x));
  const A e = ::exp(x);
  return e * (table::k0_near(along(x * x, A(0), A(4))) - A(::log(x * A(0.5))) * i0e(x) * e);
}
FN A scaled_modified_bessel_k1(A x) {
  if (!(x > A(0))) return x == A(0) ? infinite<A>() : undefined<A>();
  if (x > A(2)) return table::k1_far(along(A(2) / x, A(0), A(1))) / A(::sqrt(x));
  const A e = ::exp(x);
  return e * (table::k1_near(along(x * x, A(0), A(4))) / x + A(::log(x * A(0.5))) * i1e(x) * e);
}
FN A modified_bessel_k0(A x) { return x == A(0) ? infinite<A>() : A(::exp(-x)) * scaled_modified_bessel_k0(x); }
FN A modified_bessel_k1(A x) { return x == A(0) ? infinite<A>() : A(::exp(-x)) * scaled_modified_bessel_k1(x); }

// ---- sin(x) / x and its derivatives ----
FN A sine_ratio(A x, A n) {
  const int order = int(n);
  if (A(::fabs(x)) <= A(1) + n) {
    const int first = (order + 1) / 2;
    A term = (first % 2 ? A(-1) : A(1)) * (order % 2 ? x : A(1)) / A(2 * first + 1), total = A(0);
    for (int k = first; k < first + 16 + order; ++k) {
      total += term;
      term *= -x * x * (A(2 * k + 1) / (A(2 * k + 3) * A(2 * k + 1 - order) * A(2 * k + 2 - order)));
    }
    return total;
  }
  if (x - x != A(0)) return nan(x) ? x : A(0);
  A s = ::sin(x), c = ::cos(x), y = s / x;
  for (int k = 1; k <= order; ++k) {
    y = (c - A(k) * y) / x;
    const A turned = -s;
    s = c;
    c = turned;
  }
  return y;
}
FN A spherical_bessel_j0(A x) { return sine_ratio(x, A(0)); }
FN A sinc(A x) {
  const A t = pi<A> * x;
  return x == A(0) ? A(1) : A(::sin(t)) / t;
}

// ---- Airy ----
FN A airy_left_(A x, bool slope) {  // x < -4
  const A z = -x, zeta = z * A(::sqrt(z)) * A(2.0 / 3), r = A(16.0 / 3) / zeta, t = along(r * r, A(0), A(1));
  const A f = slope ? table::airy_slope_cos(t) : table::airy_cos(t), g = (slope ? table::airy_slope_sin(t) : table::airy_sin(t)) / zeta;
  const A c = (A(::cos(zeta)) + A(::sin(zeta))) * root_half<A>, s = (A(::sin(zeta)) - A(::cos(zeta))) * root_half<A>;
  const A root = ::sqrt(A(::sqrt(z)));
  return slope ? (f * s - g * c) * root / root_pi<A> : (f * c + g * s) / (root * root_pi<A>);
}
FN A airy_right_(A x, bool slope) {  // x > 2
  const A root = ::sqrt(x), zeta = x * root * A(2.0 / 3), t = along(A(1.8856180831641267317) / zeta, A(0), A(1));
  const A y = (slope ? -table::airy_slope_decay(t) : table::airy_decay(t)) * A(::exp(-zeta)) / (A(2) * root_pi<A>);
  return slope ? y * A(::sqrt(root)) : y / A(::sqrt(root));
}
HEAVY A airy_ai(A x) {
  if (x > A(2)) return airy_right_(x, false);
  if (x < A(-4)) return airy_left_(x, false);
  return x < A(-1) ? table::airy_left(along(x, A(-4), A(-1))) : table::airy_middle(along(x, A(-1), A(2)));
}
HEAVY A airy_slope(A x) {
  if (x > A(2)) return airy_right_(x, true);
  if (x < A(-4)) return airy_left_(x, true);
  return x < A(-1) ? table::airy_slope_left(along(x, A(-4), A(-1))) : table::airy_slope_middle(along(x, A(-1), A(2)));
}

// ---- orthogonal polynomials: p_0 = 1, p_1 = first, p_(k+1) = step(k, p_k, p_(k-1)) ----
template <class A, class S> __device__ __forceinline__ A recurrence_(A n, A first, S step) {
  n = ::trunc(n);
  if (n < A(0)) return A(0);
  if (n == A(0)) return A(1);
  A below = A(1), y = first;
  for (A k = A(1); k < n; k += A(1)) {
    const A next = step(k, y, below);
    below = y;
    y = next;
  }
  return y;
}
template <class A> __device__ __forceinline__ A chebyshev_(A x, A n, A first) {
  return recurrence_(n, first, [x](A, A y, A below) { return A(2) * x * y - below; });
}
template <class A> __device__ __forceinline__ bool inside_(A x, A n) { return n >= A(9) && A(::fabs(x)) < A(1); }
FN A chebyshev_polynomial_t(A x, A n) {
  return inside_(x, n) ? A(::cos(A(::trunc(n)) * A(::acos(x)))) : chebyshev_(x, n, x);
}
FN A chebyshev_polynomial_u(A x, A n) {
  const A t = ::acos(x);
  return inside_(x, n) ? A(::sin((A(::trunc(n)) + A(1)) * t)) / A(::sin(t)) : chebyshev_(x, n, A(2) * x);
}
FN A chebyshev_polynomial_v(A x, A n) {
  const A t = ::acos(x);
  return inside_(x, n) ? A(::cos((A(::trunc(n)) + A(0.5)) * t)) / A(::cos(t * A(0.5))) : chebyshev_(x, n, A(2) * x - A(1));
}
FN A chebyshev_polynomial_w(A x, A n) {
  const A t = ::acos(x);
  return inside_(x, n) ? A(::sin((A(::trunc(n)) + A(0.5)) * t)) / A(::sin(t * A(0.5))) : chebyshev_(x, n, A(2) * x + A(1));
}
FN A shifted_chebyshev_polynomial_t(A x, A n) { return chebyshev_polynomial_t(A(2) * x - A(1), n); }
FN A shifted_chebyshev_polynomial_u(A x, A n) { return chebyshev_polynomial_u(A(2) * x - A(1), n); }
FN A shifted_chebyshev_polynomial_v(A x, A n) { return chebyshev_polynomial_v(A(2) * x - A(1), n); }
FN A shifted_chebyshev_polynomial_w(A x, A n) { return chebyshev_polynomial_w(A(2) * x - A(1), n); }
FN A hermite_polynomial_h(A x, A n) {
  return recurrence_(n, A(2) * x, [x](A k, A y, A below) { return A(2) * (x * y - k * below); });
}
FN A hermite_polynomial_he(A x, A n) {
  return recurrence_(n, x, [x](A k, A y, A below) { return x * y - k * below; });
}
FN A laguerre_polynomial_l(A x, A n) {
  return recurrence_(n, A(1) - x, [x](A k, A y, A below) { return ((A(2) * k + A(1) - x) * y - k * below) / (k + A(1)); });
}
FN A legendre_polynomial_p(A x, A n) {
  return recurrence_(n, x, [x](A k, A y, A below) { return ((A(2) * k + A(1)) * x * y - k * below) / (k + A(1)); });
}

}  // namespace fn
#undef FN
#undef HEAVY
