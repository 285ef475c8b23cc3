// CUDA's built-in functions: mathematics, bits, loads and atomics, each by the host's own arithmetic.
#pragma once

// ---- mathematics: the host's library in the same precision; the fast versions differ from the card's in the last bits
using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;
template <class A, class B> inline typename std::common_type<A, B>::type card_min(A a, B b) {
  typedef typename std::common_type<A, B>::type C;
  if constexpr (std::is_floating_point<C>::value) return std::fmin(C(a), C(b));
  else return C(a) < C(b) ? C(a) : C(b);
}
template <class A, class B> inline typename std::common_type<A, B>::type card_max(A a, B b) {
  typedef typename std::common_type<A, B>::type C;
  if constexpr (std::is_floating_point<C>::value) return std::fmax(C(a), C(b));
  else return C(a) < C(b) ? C(b) : C(a);
}
#define CARD_BOTH_ARITHMETIC(A, B) \
  class = typename std::enable_if<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value>::type
template <class A, class B, CARD_BOTH_ARITHMETIC(A, B)> inline auto min(A a, B b) { return card_min(a, b); }
template <class A, class B, CARD_BOTH_ARITHMETIC(A, B)> inline auto max(A a, B b) { return card_max(a, b); }

// Newer C libraries declare some of these names themselves: ours get names of their own.
#define rsqrtf card_rsqrtf
#define rsqrt card_rsqrt
#define sinpif card_sinpif
#define cospif card_cospif
#define sinpi card_sinpi
#define cospi card_cospi
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / ::sqrt(x); }
inline float rsqrt(float x) { return 1.0f / sqrtf(x); }
inline float rcbrtf(float x) { return 1.0f / cbrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return powf(10.0f, x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __tanhf(float x) { return tanhf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return float(1.0 / ::sqrt(double(x))); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dsub_rn(double x, double y) { return x - y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __fma_rn(double x, double y, double z) { return ::fma(x, y, z); }
inline double __drcp_rn(double x) { return 1.0 / x; }
inline double __dsqrt_rn(double x) { return ::sqrt(x); }
inline float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
inline double normcdf(double x) { return 0.5 * ::erfc(-x * 0.70710678118654752440); }
inline float sinpif(float x) { return float(::sin(3.14159265358979323846 * double(x))); }
inline float cospif(float x) { return float(::cos(3.14159265358979323846 * double(x))); }
inline double sinpi(double x) { return ::sin(3.14159265358979323846 * x); }
inline double cospi(double x) { return ::cos(3.14159265358979323846 * x); }
inline void sincospif(float x, float* s, float* c) { *s = sinpif(x); *c = cospif(x); }
inline void sincospi(double x, double* s, double* c) { *s = sinpi(x); *c = cospi(x); }
inline void __sincosf(float x, float* s, float* c) { *s = sinf(x); *c = cosf(x); }
inline float erfinvf(float y) {  // Newton from Giles's start; the card's is good to 2 ulp, so is this
  double w = -std::log((1.0 - y) * (1.0 + y)), x = y * std::sqrt(w > 5 ? w - 1.5 : 0.7854 + 0.26 * w);
  for (int i = 0; i < 40 && std::fabs(double(y)) < 1; ++i) x -= (::erf(x) - y) * 0.88622692545275801 * ::exp(x * x);
  return std::fabs(y) < 1 ? float(x) : std::fabs(y) == 1 ? y * INFINITY : NAN;
}

// ---- conversions and bits -------------------------------------------------------------------------------------------
template <class To, class From> inline To card_cast(From v) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To r;
  std::memcpy(&r, &v, sizeof r);
  return r;
}
inline int __float_as_int(float f) { return card_cast<int>(f); }
inline unsigned __float_as_uint(float f) { return card_cast<unsigned>(f); }
inline float __int_as_float(int i) { return card_cast<float>(i); }
inline float __uint_as_float(unsigned u) { return card_cast<float>(u); }
inline long long __double_as_longlong(double d) { return card_cast<long long>(d); }
inline double __longlong_as_double(long long i) { return card_cast<double>(i); }
inline double __hiloint2double(int hi, int lo) {
  return card_cast<double>(uint64_t(unsigned(hi)) << 32 | unsigned(lo));
}
inline int __double2hiint(double d) { return int(card_cast<uint64_t>(d) >> 32); }
inline int __double2loint(double d) { return int(card_cast<uint64_t>(d)); }
inline float __int2float_rn(int i) { return float(i); }
inline float __uint2float_rn(unsigned i) { return float(i); }
inline float __ll2float_rn(long long i) { return float(i); }
inline float __ull2float_rn(unsigned long long i) { return float(i); }
inline double __ull2double_rn(unsigned long long i) { return double(i); }
inline float __double2float_rn(double d) { return float(d); }
inline int __float2int_rn(float f) { return int(std::nearbyint(f)); }
inline int __float2int_rd(float f) { return int(std::floor(f)); }
inline int __float2int_ru(float f) { return int(std::ceil(f)); }
inline int __float2int_rz(float f) { return int(f); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline int __mulhi(int a, int b) { return int(int64_t(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline long long __mul64hi(long long a, long long b) { return (long long)((__int128)a * b >> 64); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline unsigned __brev(unsigned x) {
  unsigned r = 0;
  for (int i = 0; i < 32; ++i) r |= (x >> i & 1u) << (31 - i);
  return r;
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
  const uint64_t v = uint64_t(b) << 32 | a;
  unsigned r = 0;
  for (int i = 0; i < 4; ++i) r |= unsigned(v >> (8 * (s >> (4 * i) & 7)) & 0xff) << (8 * i);
  return r;
}
inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned s) {
  return unsigned((uint64_t(hi) << 32 | lo) << (s & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned s) {
  return unsigned((uint64_t(hi) << 32 | lo) >> (s & 31));
}

// ---- loads, stores, addresses ---------------------------------------------------------------------------------------
template <class T> inline T __ldg(const T* p) { return *p; }
template <class T> inline T __ldcs(const T* p) { return *p; }
template <class T> inline T __ldca(const T* p) { return *p; }
template <class T> inline T __ldcg(const T* p) { return *p; }
template <class T> inline T __ldlu(const T* p) { return *p; }
template <class T> inline void __stcs(T* p, T v) { *p = v; }
template <class T> inline void __stcg(T* p, T v) { *p = v; }
template <class T> inline void __stwb(T* p, T v) { *p = v; }
template <class T> inline void __stwt(T* p, T v) { *p = v; }
inline size_t __cvta_generic_to_shared(const void* p) { return reinterpret_cast<size_t>(p); }
inline size_t __cvta_generic_to_global(const void* p) { return reinterpret_cast<size_t>(p); }
inline void* __cvta_global_to_generic(size_t p) { return reinterpret_cast<void*>(p); }
inline void __nanosleep(unsigned) {}
inline long long clock64() { static long long ticks; return ++ticks; }

// ---- atomics: the threads take turns, so plain arithmetic is atomic -------------------------------------------------
#define CARD_ATOMIC(name, expression)                                                              \
  template <class T, class V> inline T name(T* p, V value) {                                       \
    const T old = *p, v = T(value);                                                                \
    *p = (expression);                                                                             \
    return old;                                                                                    \
  }                                                                                                \
  template <class T, class V> inline T name##_block(T* p, V value) { return name(p, value); }
CARD_ATOMIC(atomicAdd, T(old + v))
CARD_ATOMIC(atomicSub, T(old - v))
CARD_ATOMIC(atomicExch, v)
CARD_ATOMIC(atomicMin, v < old ? v : old)
CARD_ATOMIC(atomicMax, old < v ? v : old)
CARD_ATOMIC(atomicAnd, T(old & v))
CARD_ATOMIC(atomicOr, T(old | v))
CARD_ATOMIC(atomicXor, T(old ^ v))
CARD_ATOMIC(atomicInc, old >= v ? T(0) : T(old + 1))
CARD_ATOMIC(atomicDec, (old == 0 || old > v) ? v : T(old - 1))
#undef CARD_ATOMIC
template <class T, class U, class V> inline T atomicCAS(T* p, U compare, V value) {
  const T old = *p;
  if (old == T(compare)) *p = T(value);
  return old;
}
