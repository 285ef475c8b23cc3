// The names that CuPy puts around the body of an ElementwiseKernel: strided arrays, the indexer, 16-bit number classes.
#pragma once
#ifdef CARD_COMPLEX  // a slow header
#include <complex>
using std::complex;
#endif

// Converts to float for every computation, from float implicitly and from the other types on request: CuPy's own rule.
template <class S> struct card_cupy_small {
  S data_;
  card_cupy_small() = default;
  card_cupy_small(S v) : data_(v) {}
  card_cupy_small(float v) : data_(v) {}
  template <class N,
            class = typename std::enable_if<std::is_arithmetic<N>::value && !std::is_same<N, float>::value>::type>
  explicit card_cupy_small(N v) : data_(float(v)) {}
  template <class N> card_cupy_small& operator=(const N& v) { return *this = static_cast<card_cupy_small>(v); }
  card_cupy_small(const card_cupy_small&) = default;
  card_cupy_small& operator=(const card_cupy_small&) = default;
  operator float() const { return float(data_); }
  card_cupy_small& operator+=(float v) { return *this = float(*this) + v; }
  card_cupy_small& operator-=(float v) { return *this = float(*this) - v; }
  card_cupy_small& operator*=(float v) { return *this = float(*this) * v; }
  card_cupy_small& operator/=(float v) { return *this = float(*this) / v; }
  friend card_cupy_small min(card_cupy_small x, card_cupy_small y) { return fminf(x, y); }
  friend card_cupy_small max(card_cupy_small x, card_cupy_small y) { return fmaxf(x, y); }
  friend bool isnan(card_cupy_small x) { return std::isnan(float(x)); }
  friend bool isinf(card_cupy_small x) { return std::isinf(float(x)); }
  friend bool isfinite(card_cupy_small x) { return std::isfinite(float(x)); }
  friend bool signbit(card_cupy_small x) { return std::signbit(float(x)); }
};
using float16 = card_cupy_small<__half>;
using bfloat16 = card_cupy_small<__nv_bfloat16>;

// One compiled kernel serves every number of dimensions, unlike CuPy's, so that fewer texts are compiled.
constexpr int card_dims = 32;
template <class T> struct CArray {
  T* data_;
  ptrdiff_t size_, ndim, shape_[card_dims], strides_[card_dims];  // strides in bytes
  ptrdiff_t size() const { return size_; }
  const ptrdiff_t* shape() const { return shape_; }
  const ptrdiff_t* strides() const { return strides_; }
  T& operator[](const ptrdiff_t* index) const {
    ptrdiff_t at = 0;
    for (int d = 0; d < ndim; ++d) at += index[d] * strides_[d];
    return *reinterpret_cast<T*>((char*)data_ + at);
  }
  T& operator[](ptrdiff_t i) const {
    if (i < 0 || i >= size_) card_fail("index outside a raw array");
    ptrdiff_t at = 0;
    for (int d = int(ndim) - 1; d > 0; --d) at += i % shape_[d] * strides_[d], i /= shape_[d];
    if (ndim > 0) at += i * strides_[0];
    return *reinterpret_cast<T*>((char*)data_ + at);
  }
};
struct CIndexer {
  ptrdiff_t size_, ndim, shape_[card_dims], index_[card_dims];
  ptrdiff_t size() const { return size_; }
  const ptrdiff_t* get() const { return index_; }
  void set(ptrdiff_t i) {
    for (int d = int(ndim) - 1; d > 0; --d) index_[d] = i % shape_[d], i /= shape_[d];
    if (ndim > 0) index_[0] = i;
  }
};
