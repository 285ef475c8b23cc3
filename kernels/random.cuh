// Random bits from a counter: Philox 4x64-10 (Salmon et al. 2011), the stream of NumPy's np.random.Philox.
#pragma once
#include "common.cuh"

using word = unsigned long long;

struct random_block {  // four words; as eight 32-bit halves, the low half of a word first
  word w[4];
  __device__ __forceinline__ unsigned half(int i) const { return unsigned(i % 2 ? w[i / 2] >> 32 : w[i / 2]); }
};

// Block b of the stream (key, counter). NumPy increments the counter before it makes a block, hence the 1.
__device__ __forceinline__ random_block philox(word key, word counter, word b) {
  word c0 = counter + b + 1, c1 = c0 <= counter ? 1 : 0, c2 = 0, c3 = 0, k0 = key, k1 = 0;
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const word m0 = 0xD2E7470EE14C6C93ull, m1 = 0xCA5A826395121157ull;
    const word high0 = __umul64hi(m0, c0), low0 = m0 * c0, high1 = __umul64hi(m1, c2), low1 = m1 * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B97F4A7C15ull;
    k1 += 0xBB67AE8584CAA73Bull;
  }
  return {{c0, c1, c2, c3}};
}

// The same where a captured graph may replay it: `replay` is null, or the address of two words that are sent before each
// replay, the key and what is added to the counter.
__device__ __forceinline__ random_block draw(word key, word counter, const word* replay, word b) {
  return replay ? philox(replay[0], counter + replay[1], b) : philox(key, counter, b);
}

// Uniform in [0, 1) from as many top bits as T holds exactly.
template <class T> struct uniform_bits { static constexpr int count = 24; };
template <> struct uniform_bits<__half> { static constexpr int count = 11; };
template <> struct uniform_bits<__nv_bfloat16> { static constexpr int count = 8; };

template <class T> struct random_of {  // T is float or a half type: a value from each half
  static constexpr int count = 8;      // values in a block
  __device__ static float uniform(const random_block& r, int i) {
    constexpr int bits = uniform_bits<T>::count;
    return float(r.half(i) >> (32 - bits)) * (1.0f / (1 << bits));
  }
  __device__ static void normals(const random_block& r, int pair, float& z0, float& z1) {
    const float u = float(r.half(2 * pair)) * 0x1p-32f + 0x1p-33f, v = float(r.half(2 * pair + 1)) * 0x1p-31f;
    const float radius = sqrtf(logf(u) * -2.0f);
    sincospif(v, &z1, &z0);
    z0 *= radius;
    z1 *= radius;
  }
};
template <> struct random_of<double> {
  static constexpr int count = 4;
  __device__ static double uniform(const random_block& r, int i) { return double(r.w[i] >> 11) * 0x1p-53; }
  __device__ static void normals(const random_block& r, int pair, double& z0, double& z1) {
    const double u = (double(r.w[2 * pair] >> 11) + 0.5) * 0x1p-53, v = double(r.w[2 * pair + 1] >> 11) * 0x1p-52;
    const double radius = sqrt(log(u) * -2.0);
    sincospi(v, &z1, &z0);
    z0 *= radius;
    z1 *= radius;
  }
};
