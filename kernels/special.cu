// Special functions of contiguous arrays: the kernel of pointwise.cu around the functions of special.cuh.
#include "special.cuh"
#include "pointwise.cu"
