// CUDA's two 16-bit floating types, half and bfloat16, with the functions of cuda_fp16.h and cuda_bf16.h.
#pragma once

inline float card_bits_float(uint32_t u) { float f; std::memcpy(&f, &u, 4); return f; }
inline uint32_t card_float_bits(float f) { uint32_t u; std::memcpy(&u, &f, 4); return u; }

inline float card_widen_half(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000) << 16, rest = uint32_t(h & 0x7fff) << 13;
  if (rest >= 0x0f800000) return card_bits_float(sign | rest | 0x7f800000);  // infinity and NaN
  return card_bits_float(sign | card_float_bits(card_bits_float(rest) * 0x1p112f));  // exact, denormals included
}
inline uint16_t card_narrow_half(float f) {  // round to nearest even
  const uint32_t u = card_float_bits(f), a = u & 0x7fffffff;
  const uint16_t sign = u >> 16 & 0x8000;
  if (a > 0x7f800000) return sign | 0x7e00 | (a >> 13 & 0x1ff);
  if (a >= 0x477ff000) return sign | 0x7c00;
  if (a < 0x38800000)  // a denormal half: adding 0.5 lets the float unit do the rounding at the right bit
    return sign | uint16_t(card_float_bits(card_bits_float(a) + 0.5f) - 0x3f000000);
  return sign | uint16_t((a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13);
}
inline float card_widen_bfloat(uint16_t h) { return card_bits_float(uint32_t(h) << 16); }
inline uint16_t card_narrow_bfloat(float f) {
  const uint32_t u = card_float_bits(f);
  if ((u & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

template <bool brain> struct alignas(2) card_small {
  unsigned short __x;
  card_small() = default;
  static unsigned short narrow(float f) { return brain ? card_narrow_bfloat(f) : card_narrow_half(f); }
  static card_small from_bits(unsigned short u) { card_small s; s.__x = u; return s; }
  template <class N, class = typename std::enable_if<std::is_arithmetic<N>::value>::type>
  card_small(N v) : __x(narrow(float(v))) {}
  operator float() const { return brain ? card_widen_bfloat(__x) : card_widen_half(__x); }
  template <class N, class = typename std::enable_if<std::is_arithmetic<N>::value>::type>
  card_small& operator=(N v) { __x = narrow(float(v)); return *this; }
  friend card_small operator+(card_small a, card_small b) { return float(a) + float(b); }
  friend card_small operator-(card_small a, card_small b) { return float(a) - float(b); }
  friend card_small operator*(card_small a, card_small b) { return float(a) * float(b); }
  friend card_small operator/(card_small a, card_small b) { return float(a) / float(b); }
  friend card_small operator-(card_small a) { return from_bits(a.__x ^ 0x8000); }
  friend card_small operator+(card_small a) { return a; }
  card_small& operator+=(card_small b) { return *this = *this + b; }
  card_small& operator-=(card_small b) { return *this = *this - b; }
  card_small& operator*=(card_small b) { return *this = *this * b; }
  card_small& operator/=(card_small b) { return *this = *this / b; }
  friend bool operator==(card_small a, card_small b) { return float(a) == float(b); }
  friend bool operator!=(card_small a, card_small b) { return float(a) != float(b); }
  friend bool operator<(card_small a, card_small b) { return float(a) < float(b); }
  friend bool operator>(card_small a, card_small b) { return float(a) > float(b); }
  friend bool operator<=(card_small a, card_small b) { return float(a) <= float(b); }
  friend bool operator>=(card_small a, card_small b) { return float(a) >= float(b); }
};
template <bool brain> struct alignas(4) card_small2 { card_small<brain> x, y; };

using __half = card_small<false>;
using half = __half;
using __half2 = card_small2<false>;
using half2 = __half2;
using __nv_bfloat16 = card_small<true>;
using nv_bfloat16 = __nv_bfloat16;
using __nv_bfloat162 = card_small2<true>;
using nv_bfloat162 = __nv_bfloat162;

inline float __half2float(__half h) { return h; }
inline __half __float2half(float f) { return f; }
inline __half __float2half_rn(float f) { return f; }
inline __half __double2half(double d) { return float(d); }
inline __half __int2half_rn(int i) { return float(i); }
inline unsigned short __half_as_ushort(__half h) { return h.__x; }
inline short __half_as_short(__half h) { return short(h.__x); }
inline __half __ushort_as_half(unsigned short u) { return __half::from_bits(u); }
inline __half __short_as_half(short u) { return __half::from_bits((unsigned short)u); }
inline float __bfloat162float(__nv_bfloat16 h) { return h; }
inline __nv_bfloat16 __float2bfloat16(float f) { return f; }
inline __nv_bfloat16 __float2bfloat16_rn(float f) { return f; }
inline __nv_bfloat16 __double2bfloat16(double d) { return float(d); }
inline __nv_bfloat16 __int2bfloat16_rn(int i) { return float(i); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 h) { return h.__x; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short u) { return __nv_bfloat16::from_bits(u); }

inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __float2half2_rn(float x) { return {x, x}; }
inline __half2 __float22half2_rn(float2 v) { return {v.x, v.y}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __half2half2(__half x) { return {x, x}; }
inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline float2 __half22float2(__half2 v) { return {v.x, v.y}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __float2bfloat162_rn(float x) { return {x, x}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return {v.x, v.y}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return {x, x}; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }

#define CARD_SMALL(S, S2)                                                                                          \
  inline float __low2float(S2 v) { return v.x; }                                                                   \
  inline float __high2float(S2 v) { return v.y; }                                                                  \
  inline S __hadd(S a, S b) { return a + b; }                                                                      \
  inline S __hsub(S a, S b) { return a - b; }                                                                      \
  inline S __hmul(S a, S b) { return a * b; }                                                                      \
  inline S __hdiv(S a, S b) { return a / b; }                                                                      \
  inline S __hneg(S a) { return -a; }                                                                              \
  inline S __habs(S a) { return S::from_bits(a.__x & 0x7fff); }                                                    \
  inline S __hfma(S a, S b, S c) { return S(float(double(float(a)) * float(b) + float(c))); }                      \
  inline S2 __hadd2(S2 a, S2 b) { return {a.x + b.x, a.y + b.y}; }                                                 \
  inline S2 __hsub2(S2 a, S2 b) { return {a.x - b.x, a.y - b.y}; }                                                 \
  inline S2 __hmul2(S2 a, S2 b) { return {a.x * b.x, a.y * b.y}; }                                                 \
  inline S2 __hfma2(S2 a, S2 b, S2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }                   \
  inline bool __heq(S a, S b) { return a == b; }                                                                   \
  inline bool __hne(S a, S b) { return a != b; }                                                                   \
  inline bool __hlt(S a, S b) { return a < b; }                                                                    \
  inline bool __hle(S a, S b) { return a <= b; }                                                                   \
  inline bool __hgt(S a, S b) { return a > b; }                                                                    \
  inline bool __hge(S a, S b) { return a >= b; }                                                                   \
  inline bool __hisnan(S a) { return float(a) != float(a); }                                                       \
  inline int __hisinf(S a) { return std::isinf(float(a)) ? (float(a) > 0 ? 1 : -1) : 0; }                          \
  inline S __hmax(S a, S b) { return std::fmax(float(a), float(b)); }                                              \
  inline S __hmin(S a, S b) { return std::fmin(float(a), float(b)); }                                              \
  inline S hexp(S a) { return std::exp(float(a)); }                                                                \
  inline S hlog(S a) { return std::log(float(a)); }                                                                \
  inline S hsqrt(S a) { return std::sqrt(float(a)); }                                                              \
  inline S hrsqrt(S a) { return 1.0f / std::sqrt(float(a)); }                                                      \
  inline S hrcp(S a) { return 1.0f / float(a); }
CARD_SMALL(__half, __half2)
CARD_SMALL(__nv_bfloat16, __nv_bfloat162)
#undef CARD_SMALL
