// Convolutions of 3 x 3 taps at stride 1 in true float by Winograd's F(2 x 2, 3 x 3): two by two results take 16 products
// for each pair of channels instead of 36.
//
//   u = G w G'        (16, rows, channels)   winograd_weights
//   v = B' x B        (16, channels, tiles)  winograd_inputs, of the 4 x 4 numbers that the results of a tile see
//   m_i = u_i v_i     (16, rows, tiles)      conv_mma_planes, 16 products of matrices
//   y = A' m A                               winograd_outputs
//
// v and m are four times the input and the result: a few images at a time, so that they stay in the second-level cache.
// Nothing but additions and halves is done besides the products, and sums are nine times shorter: results are no less
// precise than by the definition. Lavin and Gray, Fast algorithms for convolutional neural networks, CVPR 2016.
#include "activation.cuh"
#include "common.cuh"

// u (16, rows, pitch) of w (rows, channels, 9), or reversed of w (channels, rows, 9) with its taps in the opposite order.
__global__ void __launch_bounds__(256) winograd_weights(const float* __restrict__ w, float* __restrict__ u, int rows,
                                                        int channels, int pitch, bool reverse) {
  const index_t at = grid_thread(), size = index_t(rows) * pitch;
  if (at >= size) return;
  const int c = int(at % pitch), row = int(at / pitch);
  float g[3][3], half[4][3];
#pragma unroll
  for (int i = 0; i < 9; ++i) {
    const index_t from = reverse ? (index_t(c) * rows + row) * 9 + 8 - i : (index_t(row) * channels + c) * 9 + i;
    g[i / 3][i % 3] = c < channels ? w[from] : 0.f;
  }
#pragma unroll
  for (int j = 0; j < 3; ++j) {
    const float ends = g[0][j] + g[2][j];
    half[0][j] = g[0][j];
    half[1][j] = (ends + g[1][j]) * 0.5f;
    half[2][j] = (ends - g[1][j]) * 0.5f;
    half[3][j] = g[2][j];
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float ends = half[i][0] + half[i][2];
    u[(4 * i) * size + at] = half[i][0];
    u[(4 * i + 1) * size + at] = (ends + half[i][1]) * 0.5f;
    u[(4 * i + 2) * size + at] = (ends - half[i][1]) * 0.5f;
    u[(4 * i + 3) * size + at] = half[i][2];
  }
}

// v (16, channels, pitch) of x (images, channels, height, width); tile (image, i, j) starts at 2 i - before.
__global__ void __launch_bounds__(256) winograd_inputs(const float* __restrict__ x, float* __restrict__ v, int images,
                                                       int channels, int height, int width, int down, int across,
                                                       int before_h, int before_v, int pitch) {
  const index_t at = grid_thread(), size = index_t(channels) * pitch;
  if (at >= size) return;
  const int p = int(at % pitch), c = int(at / pitch), image = p / (down * across);
  const int h = p / across % down * 2 - before_h, w = p % across * 2 - before_v;
  const float* from = x + (index_t(image) * channels + c) * height * width;
  float d[4][4], half[4][4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const bool inside = image < images && unsigned(h + i) < unsigned(height) && unsigned(w + j) < unsigned(width);
      d[i][j] = inside ? from[(h + i) * width + w + j] : 0.f;
    }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    half[0][j] = d[0][j] - d[2][j];
    half[1][j] = d[1][j] + d[2][j];
    half[2][j] = d[2][j] - d[1][j];
    half[3][j] = d[1][j] - d[3][j];
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[(4 * i) * size + at] = half[i][0] - half[i][2];
    v[(4 * i + 1) * size + at] = half[i][1] + half[i][2];
    v[(4 * i + 2) * size + at] = half[i][2] - half[i][1];
    v[(4 * i + 3) * size + at] = half[i][1] - half[i][3];
  }
}

// y (images, rows, height, width) of m (16, rows, pitch), through bias and activation.
__global__ void __launch_bounds__(256) winograd_outputs(const float* __restrict__ m, const float* __restrict__ b,
                                                        float* __restrict__ y, int images, int rows, int height, int width,
                                                        int down, int across, int pitch, int activation) {
  const int tiles = images * down * across;
  const index_t at = grid_thread(), size = index_t(rows) * pitch;
  if (at >= index_t(rows) * tiles) return;
  const int p = int(at % tiles), row = int(at / tiles), image = p / (down * across);
  const int h = p / across % down * 2, w = p % across * 2;
  m += index_t(row) * pitch + p;
  float half[2][4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float a = m[j * size], b = m[(4 + j) * size], c = m[(8 + j) * size], d = m[(12 + j) * size];
    half[0][j] = a + b + c;
    half[1][j] = b - c - d;
  }
  const float add = b ? b[row] : 0.f;
  y += ((index_t(image) * rows + row) * height + h) * width + w;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float first = half[i][0] + half[i][1] + half[i][2] + add, second = half[i][1] - half[i][2] - half[i][3] + add;
    if (h + i < height) y[i * width] = activated(first, activation);
    if (h + i < height && w + 1 < width) y[i * width + 1] = activated(second, activation);
  }
}
