// The CUDA language as host C++: everything a kernel's text needs so that g++ compiles it unchanged.
#pragma once
#if __has_include(<bits/c++config.h>)  // GNU: without Bessel and his friends <cmath> is three times smaller
#include <bits/c++config.h>
#undef _GLIBCXX_USE_STD_SPEC_FUNCS
#endif
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#undef assert

#define GRADFLOW_HOST_CARD 1
#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __shared__ static  // only what the Python side did not rewrite; see source.py
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __noinline__ __attribute__((noinline))
#define assert(e) ((e) ? (void)0 : card_fail("assertion failed: " #e))
#define __trap() card_fail("__trap()")

namespace cuda { namespace std { using namespace ::std; } }

// ---- vector types ---------------------------------------------------------------------------------------------------
#define CARD_VECTORS(T, name, a1, a2, a4)                                                                           \
  struct name##1 { T x; };                                                                                          \
  struct alignas(a2) name##2 { T x, y; };                                                                           \
  struct name##3 { T x, y, z; };                                                                                    \
  struct alignas(a4) name##4 { T x, y, z, w; };                                                                     \
  inline name##1 make_##name##1(T x) { return {x}; }                                                                \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                                        \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                                                \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CARD_VECTORS(signed char, char, 1, 2, 4)
CARD_VECTORS(unsigned char, uchar, 1, 2, 4)
CARD_VECTORS(short, short, 2, 4, 8)
CARD_VECTORS(unsigned short, ushort, 2, 4, 8)
CARD_VECTORS(int, int, 4, 8, 16)
CARD_VECTORS(unsigned, uint, 4, 8, 16)
CARD_VECTORS(long long, longlong, 8, 16, 16)
CARD_VECTORS(unsigned long long, ulonglong, 8, 16, 16)
CARD_VECTORS(long, long, 8, 16, 16)
CARD_VECTORS(unsigned long, ulong, 8, 16, 16)
CARD_VECTORS(float, float, 4, 8, 16)
CARD_VECTORS(double, double, 8, 16, 16)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// ---- the running block; the definitions are in runtime.cpp ----------------------------------------------------------
// 'left' threads of the block have not started, 'next' is the one to start now, 'waiting' threads wait for others.
struct card_state {
  int left, next, step, alive, waiting, thread, threads;
  bool flat;        // the block is one-dimensional
  uint64_t block;   // serial number of the running block, never zero
  void** args;
  void* dynamic_shared;
};
struct card_slot { uint64_t block; void* memory; size_t bytes; };
struct card_place { const char* file; int line; };
// Last parameters that hold the line of the caller.
#define CARD_PLACE const char* file = __builtin_FILE(), int line = __builtin_LINE()

extern "C" {
extern card_state card_now;
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
void card_thread_left();
[[noreturn]] void card_fail_at(const char* what, card_place at);
int card_barrier(int value, card_place at);  // the number of threads that brought a non-zero value
uint64_t card_warp(int kind, unsigned mask, uint64_t value, int lane, card_place at);
void card_shared(card_slot* slot, size_t bytes, size_t align);
void card_copy_async(void* shared, const void* global, size_t bytes, size_t filled);
void card_copy_commit();
void card_copy_wait(int groups);
}

[[noreturn]] inline void card_fail(const char* what, CARD_PLACE) { card_fail_at(what, {file, line}); }
constexpr int warpSize = 32;

inline bool card_next() {  // start the next thread of the block, unless all have started
  if (card_now.left == 0) return false;
  --card_now.left;
  const unsigned t = card_now.thread = card_now.next;
  card_now.next += card_now.step;
  if (card_now.flat) {
    threadIdx.x = t;
  } else {
    threadIdx.x = t % blockDim.x;
    threadIdx.y = t / blockDim.x % blockDim.y;
    threadIdx.z = t / blockDim.x / blockDim.y;
  }
  return true;
}

inline void card_done() {
  --card_now.alive;
  if (__builtin_expect(card_now.waiting, 0)) card_thread_left();
}

template <class T> inline T& card_shared_array(card_slot& slot, size_t align) {
  if (slot.block != card_now.block) card_shared(&slot, sizeof(T), align);
  return *static_cast<T*>(slot.memory);
}

// ---- barriers and warps ---------------------------------------------------------------------------------------------
inline void __syncthreads(CARD_PLACE) { card_barrier(0, {file, line}); }
inline int __syncthreads_count(int p, CARD_PLACE) { return card_barrier(p != 0, {file, line}); }
inline int __syncthreads_or(int p, CARD_PLACE) { return card_barrier(p != 0, {file, line}) != 0; }
inline int __syncthreads_and(int p, CARD_PLACE) { return card_barrier(p == 0, {file, line}) == 0; }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

enum { CARD_SYNC, CARD_SHUFFLE, CARD_BALLOT, CARD_MATCH, CARD_ADD, CARD_MIN_I, CARD_MAX_I, CARD_MIN_U, CARD_MAX_U,
       CARD_AND, CARD_OR, CARD_XOR, CARD_CALL };

#define CARD_WARP(kind, mask, value) card_warp(kind, mask, value, 0, {file, line})

inline int card_lane() { return card_now.thread & 31; }
inline void __syncwarp(unsigned mask = ~0u, CARD_PLACE) { CARD_WARP(CARD_SYNC, mask, 0); }

template <class T> inline T card_shuffle(unsigned mask, T v, int lane, const char* file, int line) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "shuffles move at most 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &v, sizeof(T));
  bits = card_warp(CARD_SHUFFLE, mask, bits, lane, {file, line});
  std::memcpy(&v, &bits, sizeof(T));
  return v;
}
template <class T> inline T __shfl_sync(unsigned mask, T v, int lane, int width = 32, CARD_PLACE) {
  return card_shuffle(mask, v, (card_lane() & ~(width - 1)) | (lane & (width - 1)), file, line);
}
template <class T> inline T __shfl_up_sync(unsigned mask, T v, unsigned d, int width = 32, CARD_PLACE) {
  const int me = card_lane(), from = me - int(d);
  return card_shuffle(mask, v, from < (me & ~(width - 1)) ? me : from, file, line);
}
template <class T> inline T __shfl_down_sync(unsigned mask, T v, unsigned d, int width = 32, CARD_PLACE) {
  const int me = card_lane();
  return card_shuffle(mask, v, (me & (width - 1)) + int(d) >= width ? me : me + int(d), file, line);
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T v, int d, int width = 32, CARD_PLACE) {
  const int me = card_lane(), from = me ^ d;
  return card_shuffle(mask, v, from >= (me & ~(width - 1)) + width ? me : from, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int p, CARD_PLACE) { return CARD_WARP(CARD_BALLOT, mask, p != 0); }
inline int __any_sync(unsigned mask, int p, CARD_PLACE) { return CARD_WARP(CARD_BALLOT, mask, p != 0) != 0; }
inline int __all_sync(unsigned mask, int p, CARD_PLACE) { return CARD_WARP(CARD_BALLOT, mask, p == 0) == 0; }
inline unsigned __activemask() { return 1u << card_lane(); }  // all that the language promises
template <class T> inline unsigned __match_any_sync(unsigned mask, T v, CARD_PLACE) {
  uint64_t bits = 0;
  std::memcpy(&bits, &v, sizeof(T));
  return CARD_WARP(CARD_MATCH, mask, bits);
}
inline unsigned __reduce_add_sync(unsigned m, unsigned v, CARD_PLACE) { return CARD_WARP(CARD_ADD, m, v); }
inline int __reduce_add_sync(unsigned m, int v, CARD_PLACE) { return CARD_WARP(CARD_ADD, m, v); }
inline int __reduce_min_sync(unsigned m, int v, CARD_PLACE) { return CARD_WARP(CARD_MIN_I, m, v); }
inline int __reduce_max_sync(unsigned m, int v, CARD_PLACE) { return CARD_WARP(CARD_MAX_I, m, v); }
inline unsigned __reduce_min_sync(unsigned m, unsigned v, CARD_PLACE) { return CARD_WARP(CARD_MIN_U, m, v); }
inline unsigned __reduce_max_sync(unsigned m, unsigned v, CARD_PLACE) { return CARD_WARP(CARD_MAX_U, m, v); }
inline unsigned __reduce_and_sync(unsigned m, unsigned v, CARD_PLACE) { return CARD_WARP(CARD_AND, m, v); }
inline unsigned __reduce_or_sync(unsigned m, unsigned v, CARD_PLACE) { return CARD_WARP(CARD_OR, m, v); }
inline unsigned __reduce_xor_sync(unsigned m, unsigned v, CARD_PLACE) { return CARD_WARP(CARD_XOR, m, v); }

namespace card {
// One function for a whole warp: every lane brings its own 'data'; when all 32 are there, f(lanes) runs once with the
// 32 pointers and may read and write them all. This is how a host version of mma.sync or ldmatrix is written.
template <class T> inline void warp_call(T* data, void (*f)(T* const* lanes), CARD_PLACE) {
  struct call { T* data; void (*f)(T* const*); static void run(void** p) {
    T* lanes[32];
    for (int i = 0; i < 32; ++i) lanes[i] = p[i] ? static_cast<call*>(p[i])->data : nullptr;
    for (int i = 0; i < 32; ++i) if (!lanes[i]) card_fail("a warp-wide instruction needs all 32 lanes");
    static_cast<call*>(p[0])->f(lanes);
  } void (*go)(void**); } mine{data, f, &call::run};
  static_assert(offsetof(call, go) == 16, "runtime.cpp reads 'go' there");
  card_warp(CARD_CALL, ~0u, reinterpret_cast<uint64_t>(&mine), 0, {file, line});
}
// cp.async: the bytes arrive only at the wait that asks for them, so a missing wait reads poison.
// 'filled' is the src-size of the instruction: that many bytes are copied, the rest become zero.
inline void copy_async(void* shared, const void* global, size_t bytes) {
  card_copy_async(shared, global, bytes, bytes);
}
inline void copy_async(void* shared, const void* global, size_t bytes, size_t filled) {
  card_copy_async(shared, global, bytes, filled);
}
inline void copy_commit() { card_copy_commit(); }
inline void copy_wait(int groups_left_in_flight) { card_copy_wait(groups_left_in_flight); }
}  // namespace card

#include "half.h"
#include "intrinsics.h"
#include "entry.h"
