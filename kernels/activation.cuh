// The activations that kernels apply to a result before they store it, by number: the order of ACTIVATIONS in
// gradflow/ops/conv.py, after 0 for none.
#pragma once
#include "pointwise.cuh"

constexpr int ACTIVATION_RELU = 1;

template <class A> __device__ __forceinline__ A activated(A x, int activation) {
  switch (activation) {
    case ACTIVATION_RELU: return fn::relu<A>(x);
    case 2: return fn::gelu<A>(x);
    case 3: return fn::gelu_tanh<A>(x);
    case 4: return fn::silu<A>(x);
    case 5: return fn::sigmoid<A>(x);
    case 6: return fn::tanh<A>(x);
    default: return x;
  }
}
