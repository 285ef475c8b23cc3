// The tensor cores and what feeds them: copies to shared memory that overlap computation, 8 x 8 matrices, products.
//
// Each is one instruction of the card behind a function, the only assembly there is, with its meaning beside it for the
// stand-in card. All lanes of a warp must call the matrix functions together. Of lane l, g = l / 4 and t = l % 4.
//
//   product    types                 a (16 x k, two numbers of 16 bits or one of 32 in a word)      b (k x 8)
//   16 x 8 x 16   half, bfloat16     (g, 2t) (g + 8, 2t) (g, 2t + 8) (g + 8, 2t + 8), and the next   (2t, g) (2t + 8, g)
//   16 x 8 x 8    float as TF32      (g, t) (g + 8, t) (g, t + 4) (g + 8, t + 4)                     (t, g) (t + 4, g)
//
// and of d (16 x 8), float: (g, 2t) (g, 2t + 1) (g + 8, 2t) (g + 8, 2t + 1). Needs compute capability 8.0, below which a
// product traps and a copy is an ordinary one.
#pragma once
#include "common.cuh"

// ---- copies from global to shared memory ------------------------------------------------------------------------------

// BYTES (4, 8 or 16, to which both addresses are aligned) arrive at the wait for their group; zeros if not live, and then
// nothing is read: `global` need only be some address. CACHED: the block, or its neighbour, will read these bytes again.
template <int BYTES, bool CACHED = false> __device__ __forceinline__ void copy_async(void* shared, const void* global, bool live = true) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "what one instruction copies");
#if defined(GRADFLOW_HOST_CARD)
  card::copy_async(shared, global, BYTES, live ? BYTES : 0);
#elif __CUDA_ARCH__ >= 800
  const unsigned to = unsigned(__cvta_generic_to_shared(shared));
  const int bytes = live ? BYTES : 0;
  if constexpr (BYTES == 16 && !CACHED)  // past the first-level cache: most tiles are read once by a block
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(global), "n"(BYTES), "r"(bytes) : "memory");
#else
  struct alignas(BYTES) words { unsigned v[BYTES / 4]; };
  words w = {};
  if (live) w = *static_cast<const words*>(global);
  *static_cast<words*>(shared) = w;
#endif
}

// Ends a group of copies.
__device__ __forceinline__ void copy_commit() {
#if defined(GRADFLOW_HOST_CARD)
  card::copy_commit();
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits for this thread's groups but the last LEFT; a barrier must follow before others' copies are read.
template <int LEFT> __device__ __forceinline__ void copy_wait() {
#if defined(GRADFLOW_HOST_CARD)
  card::copy_wait(LEFT);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#endif
}

// ---- 8 x 8 matrices of 16-bit numbers from shared memory --------------------------------------------------------------

// Reads N (1, 2 or 4) matrices: lane 8 i + j brings the address, a multiple of 16, of row j of matrix i; r[i] is then the
// numbers (g, 2t) and (g, 2t + 1) of matrix i, or with TRANSPOSED (2t, g) and (2t + 1, g). Four 32-bit numbers make a
// row as well: r[i] is then number (g, t).
template <bool TRANSPOSED = false, int N>
__device__ __forceinline__ void load_matrices(unsigned (&r)[N], const void* row) {
  static_assert(N == 1 || N == 2 || N == 4, "what one instruction reads");
#if defined(GRADFLOW_HOST_CARD)
  struct Call { const void* row; unsigned* r; } mine{row, r};
  card::warp_call<Call>(&mine, [](Call* const* lanes) {
    for (int i = 0; i < N; ++i)
      for (int l = 0; l < 32; ++l) {
        unsigned short pair[2];
        for (int e = 0; e < 2; ++e) {
          const int j = TRANSPOSED ? l % 4 * 2 + e : l / 4, k = TRANSPOSED ? l / 4 : l % 4 * 2 + e;
          pair[e] = static_cast<const unsigned short*>(lanes[8 * i + j]->row)[k];
        }
        lanes[l]->r[i] = unsigned(pair[1]) << 16 | pair[0];
      }
  });
#else
  const unsigned from = unsigned(__cvta_generic_to_shared(row));
  if constexpr (N == 4 && !TRANSPOSED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
  if constexpr (N == 4 && TRANSPOSED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
  if constexpr (N == 2 && !TRANSPOSED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(from) : "memory");
  if constexpr (N == 2 && TRANSPOSED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(from) : "memory");
  if constexpr (N == 1 && !TRANSPOSED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(from) : "memory");
  if constexpr (N == 1 && TRANSPOSED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(from) : "memory");
#endif
}

// ---- products ---------------------------------------------------------------------------------------------------------

// How many numbers of type T a product sums over.
template <class T> constexpr int mma_depth = 32 / int(sizeof(T));

// The float nearest to x with 10 bits of fraction, ties away from zero, as a word for mma<float>.
__device__ __forceinline__ unsigned to_tf32(float x) {
#if defined(GRADFLOW_HOST_CARD)
  const unsigned u = __float_as_uint(x);
  return (u & 0x7f800000) == 0x7f800000 ? u : (u + 0x1000) & ~0x1fffu;
#elif __CUDA_ARCH__ >= 800
  unsigned u;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(u) : "f"(x));
  return u;
#else
  return __float_as_uint(x);
#endif
}

// Two numbers of 16 bits in a word, `low` first.
template <class T> __device__ __forceinline__ unsigned to_pair(float low, float high) {
  static_assert(sizeof(T) == 2, "a pair is of 16-bit numbers");
  union { T v[2]; unsigned word; } u;
  u.v[0] = from_acc<T>(low);
  u.v[1] = from_acc<T>(high);
  return u.word;
}

template <class T> constexpr bool is_half = false;
template <> constexpr bool is_half<__half> = true;

// d += a b, a (16 x mma_depth<T>), b (mma_depth<T> x 8), d (16 x 8), in the places told above.
template <class T>
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if defined(GRADFLOW_HOST_CARD)
  struct Call { float* d; const unsigned *a, *b; } mine{d, a, b};
  card::warp_call<Call>(&mine, [](Call* const* lanes) {
    constexpr int depth = mma_depth<T>, per = 4 / int(sizeof(T));  // numbers in a word
    const auto number = [](unsigned word, int i) {
      if constexpr (sizeof(T) == 4) return card_cast<float>(word & ~0x1fffu);  // the units drop the last 13 bits
      else return to_acc<T>(T::from_bits((unsigned short)(word >> 16 * i)));
    };
    float a[16][depth], b[8][depth];
    for (int k = 0; k < depth; ++k) {
      const int half = k / (4 * per), t = k % (4 * per) / per, i = k % per;
      for (int m = 0; m < 16; ++m) a[m][k] = number(lanes[m % 8 * 4 + t]->a[m / 8 + 2 * half], i);
      for (int n = 0; n < 8; ++n) b[n][k] = number(lanes[n * 4 + t]->b[half], i);
    }
    for (int m = 0; m < 16; ++m)
      for (int n = 0; n < 8; ++n) {
        float sum = 0;
        for (int k = 0; k < depth; ++k) sum += a[m][k] * b[n][k];
        lanes[m % 8 * 4 + n / 2]->d[m / 8 * 2 + n % 2] += sum;
      }
  });
#elif __CUDA_ARCH__ >= 800
#define GRADFLOW_MMA(shape, type)                                                                                  \
  asm volatile("mma.sync.aligned." shape ".row.col.f32." type "." type ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, " \
               "{%8, %9}, {%0, %1, %2, %3};"                                                                       \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                    \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
  if constexpr (sizeof(T) == 4) GRADFLOW_MMA("m16n8k8", "tf32");
  else if constexpr (is_half<T>) GRADFLOW_MMA("m16n8k16", "f16");
  else GRADFLOW_MMA("m16n8k16", "bf16");
#undef GRADFLOW_MMA
#else
  __trap();
#endif
}

// ---- a function -------------------------------------------------------------------------------------------------------

// 2^x to two units in the last place, by the one instruction there is for it; results below 2^-126 are zeros.
__device__ __forceinline__ float exp2_fast(float x) {
#if defined(GRADFLOW_HOST_CARD)
  return exp2f(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}
