// Layer, RMS, batch and group norm: xh = (x - mean) rstd, y = w xh + b, and the gradient (gradflow/ops/standardize.py).
//
// Layer and RMS norm work on rows in registers. Batch and group norm see x as planes, the l values of one sample's channel:
// a team reduces each plane, or a piece of it, to partial results, a second kernel merges those of a set in a fixed order,
// and a third makes y or dx, one weight and one pair of statistics to a plane. Where planes are short, batch norm reduces
// the columns of x as an (n, c l) matrix instead, as the weight gradients of layer norm do. A variance is always that of
// differences from a mean: of registers, or of pieces by the pairwise update of Chan et al. (1979), so nothing cancels.
#include "row.cuh"

template <class A> __device__ __forceinline__ A reciprocal_root(A v) { return A(1) / A(::sqrt(v)); }

// w or b of a pack, or what stands for one that is not there.
template <int VEC, class W, class A> __device__ __forceinline__ void load_weight(const W* w, index_t i, A otherwise, A (&v)[VEC]) {
  if (w) {
    load_pack<VEC>(w + i, v);
  } else {
#pragma unroll
    for (int j = 0; j < VEC; ++j) v[j] = otherwise;
  }
}

// ---- rows: layer and RMS norm --------------------------------------------------------------------------------------------

template <class T, class W, bool centre, class Team, int E, int VEC>
__global__ void __launch_bounds__(Team::threads, 1)
norm_rows(const T* x, const W* w, const W* b, T* y, acc_t<T>* mean, acc_t<T>* rstd, index_t rows, index_t n, double eps) {
  using A = acc_t<T>;
  const place<Team> at(rows, n, 1);
  share<T, Team, E, VEC> r(x + at.first, n);
  A m = 0, s = 0;
  if (centre) {
    r.each([&](A (&v)[VEC], index_t) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) m += v[j];
    });
    m = team_sum<Team>(m) / A(n);
  }
  r.each([&](A (&v)[VEC], index_t) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) s += (v[j] - m) * (v[j] - m);
  });
  s = reciprocal_root(team_sum<Team>(s) / A(n) + A(eps));
  r.each([&](A (&v)[VEC], index_t i) {
    A wv[VEC], bv[VEC], out[VEC];
    load_weight<VEC>(w, i, A(1), wv);
    load_weight<VEC>(b, i, A(0), bv);
#pragma unroll
    for (int j = 0; j < VEC; ++j) out[j] = (v[j] - m) * s * wv[j] + bv[j];
    if (at.mine) store_pack<VEC>(y + at.first + i, out);
  });
  if (at.mine && Team::rank() == 0) {
    if (centre) mean[at.row] = m;
    rstd[at.row] = s;
  }
}

// dx = rstd (gw - <gw> - xh (<gw xh> + grstd rstd / n)) + gmean / n; without centre no <gw> and no gmean.
template <class T, class W, bool centre, class Team, int E, int VEC>
__global__ void __launch_bounds__(Team::threads, 1)
norm_rows_backward(const T* g, const T* x, const W* w, const acc_t<T>* mean, const acc_t<T>* rstd, const acc_t<T>* gmean,
                   const acc_t<T>* grstd, T* dx, index_t rows, index_t n) {
  using A = acc_t<T>;
  const place<Team> at(rows, n, 1);
  share<T, Team, E, VEC> rg(g + at.first, n), rx(x + at.first, n);
  const A m = centre ? mean[at.row] : A(0), r = rstd[at.row];
  A a = 0, c = 0;
  rg.each(rx, [&](A (&gv)[VEC], A (&xv)[VEC], index_t i) {
    A wv[VEC];
    load_weight<VEC>(w, i, A(1), wv);
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      gv[j] *= wv[j];
      xv[j] = (xv[j] - m) * r;
      a += gv[j];
      c += gv[j] * xv[j];
    }
  });
  const A inverse = A(1) / A(n);
  c = (team_sum<Team>(c) + grstd[at.row] * r) * inverse;
  a = centre ? (team_sum<Team>(a) - gmean[at.row] / r) * inverse : A(0);
  rg.each(rx, [&](A (&gv)[VEC], A (&xv)[VEC], index_t i) {
    A wv[VEC], out[VEC];
    if (!rg.kept) load_weight<VEC>(w, i, A(1), wv);
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      const A gw = rg.kept ? gv[j] : gv[j] * wv[j], xh = rg.kept ? xv[j] : (xv[j] - m) * r;
      out[j] = r * (gw - a - xh * c);
    }
    if (at.mine) store_pack<VEC>(dx + at.first + i, out);
  });
}

// ---- columns: an (m, n) matrix, 32 columns and some of the rows to a block -------------------------------------------------

// Partial sums of g and g xh over rows; the statistics belong to rows, or else to every `width` columns.
template <class T, bool per_row, class Team>
__global__ void __launch_bounds__(Team::threads, 1)
norm_column_sums(const T* g, const T* x, const acc_t<T>* mean, const acc_t<T>* rstd, acc_t<T>* sum_g, acc_t<T>* sum_gx,
                 index_t m, index_t n, index_t width, index_t rows_each) {
  using A = acc_t<T>;
  const bool mine = Team::row() < n;
  const index_t column = mine ? Team::row() : n - 1, from = blockIdx.y * rows_each;
  const index_t until = from + rows_each < m ? from + rows_each : m;
  const unsigned channel = per_row ? 0u : unsigned(column) / unsigned(width);
  A mu = per_row || !mean ? A(0) : mean[channel], r = per_row ? A(1) : rstd[channel], a = 0, c = 0;
#pragma unroll 4
  for (index_t i = from + Team::rank(); i < until; i += Team::size) {
    const A gv = load(g + i * n + column), xv = load(x + i * n + column);
    if (per_row) {
      mu = mean ? mean[i] : A(0);
      r = rstd[i];
    }
    a += gv;
    c += gv * ((xv - mu) * r);
  }
  a = team_sum<Team>(a);
  c = team_sum<Team>(c);
  if (mine && Team::rank() == 0) {
    if (sum_g) sum_g[blockIdx.y * n + column] = a;
    if (sum_gx) sum_gx[blockIdx.y * n + column] = c;
  }
}

// Partial means, and sums of squared differences from them, over rows.
template <class T, class Team>
__global__ void __launch_bounds__(Team::threads, 1)
norm_column_moments(const T* x, acc_t<T>* mean, acc_t<T>* square, index_t m, index_t n, index_t rows_each) {
  using A = acc_t<T>;
  const bool mine = Team::row() < n;
  const index_t column = mine ? Team::row() : n - 1, from = blockIdx.y * rows_each;
  const index_t until = from + rows_each < m ? from + rows_each : m;
  A s = 0, q = 0;
#pragma unroll 4
  for (index_t i = from + Team::rank(); i < until; i += Team::size) s += load(x + i * n + column);
  s = team_sum<Team>(s) / A(until - from);
#pragma unroll 4
  for (index_t i = from + Team::rank(); i < until; i += Team::size) {
    const A d = load(x + i * n + column) - s;
    q += d * d;
  }
  q = team_sum<Team>(q);
  if (mine && Team::rank() == 0) {
    mean[blockIdx.y * n + column] = s;
    square[blockIdx.y * n + column] = q;
  }
}

// ---- planes: pieces of `each` values of planes of l, `pieces` to a plane ---------------------------------------------------

struct piece {  // of the number-th team
  index_t plane, first;
  int size;
  __device__ __forceinline__ piece(index_t number, index_t l, index_t pieces, index_t each) {
    plane = pieces == 1 ? number : unsigned(number) / unsigned(pieces);
    const index_t from = (number - plane * pieces) * each;
    first = plane * l + from;
    size = int(l - from < each ? l - from : each);
  }
};

template <class T, class Team, int E, int VEC>
__global__ void __launch_bounds__(Team::threads, 1)
norm_plane_moments(const T* x, acc_t<T>* mean, acc_t<T>* square, index_t count, index_t l, index_t pieces, index_t each) {
  using A = acc_t<T>;
  const place<Team> at(count, 1, 1);
  const piece p(at.row, l, pieces, each);
  share<T, Team, E, VEC> r(x + p.first, p.size);
  A s = 0, q = 0;
  r.each([&](A (&v)[VEC], index_t) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) s += v[j];
  });
  s = team_sum<Team>(s) / A(p.size);
  r.each([&](A (&v)[VEC], index_t) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) q += (v[j] - s) * (v[j] - s);
  });
  q = team_sum<Team>(q);
  if (at.mine && Team::rank() == 0) {
    mean[at.row] = s;
    square[at.row] = q;
  }
}

// Sums of g and g xh; the statistics belong to channels, c of them, or with `width` to every `width` planes.
template <class T, class Team, int E, int VEC>
__global__ void __launch_bounds__(Team::threads, 1)
norm_plane_sums(const T* g, const T* x, const acc_t<T>* mean, const acc_t<T>* rstd, acc_t<T>* sum_g, acc_t<T>* sum_gx,
                index_t count, index_t l, index_t pieces, index_t each, index_t c, index_t width) {
  using A = acc_t<T>;
  const place<Team> at(count, 1, 1);
  const piece p(at.row, l, pieces, each);
  const unsigned set = width ? unsigned(p.plane) / unsigned(width) : unsigned(p.plane) % unsigned(c);
  const A m = mean[set], r = rstd[set];
  share<T, Team, E, VEC> rg(g + p.first, p.size), rx(x + p.first, p.size);
  A a = 0, b = 0;
  rg.each(rx, [&](A (&gv)[VEC], A (&xv)[VEC], index_t) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      a += gv[j];
      b += gv[j] * ((xv[j] - m) * r);
    }
  });
  a = team_sum<Team>(a);
  b = team_sum<Team>(b);
  if (at.mine && Team::rank() == 0) {
    sum_g[at.row] = a;
    sum_gx[at.row] = b;
  }
}

// ---- merging: result k has the partial results (i, k, j), i < outer, j < inner, of an array of shape (outer, sets, inner) ---

// How many values partial result (i, k, j) stands for: a piece of a plane, or some rows of a column.
struct counts {
  index_t rows, rows_each, l, pieces, each;
  template <class A> __device__ __forceinline__ A of(unsigned i, unsigned j) const {
    const index_t from = i * rows_each, start = (pieces == 1 ? 0 : j % unsigned(pieces)) * each;
    const index_t down = rows - from < rows_each ? rows - from : rows_each, across = l - start < each ? l - start : each;
    return A(down) * A(across);
  }
};

template <class A, class Team>
__global__ void __launch_bounds__(Team::threads, 1)
norm_moments(const A* part_mean, const A* part_square, A* mean, A* rstd, index_t sets, index_t outer, index_t inner,
             index_t rows, index_t rows_each, index_t l, index_t pieces, index_t each, double total, double eps) {
  const bool mine = Team::row() < sets;
  const index_t k = mine ? Team::row() : sets - 1;
  const counts n{rows, rows_each, l, pieces, each};
  const unsigned parts = unsigned(outer * inner), across = unsigned(inner);
  A m = 0, q = 0;
#pragma unroll 2
  for (unsigned e = Team::rank(); e < parts; e += Team::size) {
    const unsigned i = e / across, j = e % across;
    m += part_mean[(i * sets + k) * inner + j] * n.template of<A>(i, j);
  }
  m = team_sum<Team>(m) / A(total);
#pragma unroll 2
  for (unsigned e = Team::rank(); e < parts; e += Team::size) {
    const unsigned i = e / across, j = e % across;
    const index_t p = (i * sets + k) * inner + j;
    const A d = part_mean[p] - m;
    q += part_square[p] + d * d * n.template of<A>(i, j);
  }
  q = team_sum<Team>(q);
  if (mine && Team::rank() == 0) {
    mean[k] = m;
    rstd[k] = reciprocal_root(q / A(total) + A(eps));
  }
}

// Sums of partial sums, each first multiplied by its channel's weight if there are weights: channel k d + j / pieces of c.
template <class A, class W, class Team>
__global__ void __launch_bounds__(Team::threads, 1)
norm_sums(const A* part_g, const A* part_gx, const W* w, A* sum_g, A* sum_gx, index_t sets, index_t outer,
          index_t inner, index_t pieces, index_t d, index_t c) {
  const bool mine = Team::row() < sets;
  const index_t k = mine ? Team::row() : sets - 1;
  const unsigned parts = unsigned(outer * inner), across = unsigned(inner);
  A a = 0, b = 0;
#pragma unroll 2
  for (unsigned e = Team::rank(); e < parts; e += Team::size) {
    const unsigned i = e / across, j = e % across;
    const index_t p = (i * sets + k) * inner + j;
    const A v = w ? load(w + (unsigned(k) * unsigned(d) + j / unsigned(pieces)) % unsigned(c)) : A(1);
    if (part_g) a += part_g[p] * v;
    if (part_gx) b += part_gx[p] * v;
  }
  a = team_sum<Team>(a);
  b = team_sum<Team>(b);
  if (mine && Team::rank() == 0) {
    if (sum_g) sum_g[k] = a;
    if (sum_gx) sum_gx[k] = b;
  }
}

// ---- element by element ----------------------------------------------------------------------------------------------------

// Threads along x go through a plane, those along y take planes; blocks along y share long planes.
struct plane_place {
  index_t plane, first, step;
  unsigned channel, set;
  __device__ __forceinline__ plane_place(index_t c, index_t width, int vec) {
    plane = index_t(blockIdx.x) * blockDim.y + threadIdx.y;
    first = (index_t(blockIdx.y) * blockDim.x + threadIdx.x) * vec;
    step = index_t(gridDim.y) * blockDim.x * vec;
    channel = unsigned(plane) % unsigned(c);
    set = width ? unsigned(plane) / unsigned(width) : channel;
  }
};

// y = (x - mean) rstd w + b; with eps >= 0 what is given for rstd is a variance.
template <class T, class W, int VEC>
__global__ void __launch_bounds__(256, 1)
norm_apply(const T* x, const acc_t<T>* mean, const acc_t<T>* rstd, const W* w, const W* b, T* y, index_t planes, index_t l,
           index_t c, index_t width, double eps) {
  using A = acc_t<T>;
  const plane_place at(c, width, VEC);
  if (at.plane >= planes) return;
  const A m = mean[at.set], r = eps < 0 ? rstd[at.set] : reciprocal_root(rstd[at.set] + A(eps));
  const A scale = w ? r * load(w + at.channel) : r, offset = b ? load(b + at.channel) : A(0);
#pragma unroll 4
  for (index_t i = at.first; i < l; i += at.step) {
    A v[VEC];
    load_pack<VEC>(x + at.plane * l + i, v);
#pragma unroll
    for (int j = 0; j < VEC; ++j) v[j] = (v[j] - m) * scale + offset;
    store_pack<VEC>(y + at.plane * l + i, v);
  }
}

// dx, from a set's sums of g w and g w xh, or with `times` those of g and g xh, to be multiplied by its weight.
template <class T, class W, int VEC>
__global__ void __launch_bounds__(256, 1)
norm_dx(const T* g, const T* x, const W* w, const acc_t<T>* mean, const acc_t<T>* rstd, const acc_t<T>* gmean,
        const acc_t<T>* grstd, const acc_t<T>* sum_g, const acc_t<T>* sum_gx, T* dx, index_t planes, index_t l, index_t c,
        index_t width, double n, bool times) {
  using A = acc_t<T>;
  const plane_place at(c, width, VEC);
  if (at.plane >= planes) return;
  const A m = mean[at.set], r = rstd[at.set], v = w ? load(w + at.channel) : A(1), f = times ? v : A(1);
  const A scale = r * v, slope = (sum_gx[at.set] * f + grstd[at.set] * r) / A(n) * r * r;
  const A offset = (gmean[at.set] - sum_g[at.set] * f * r) / A(n);
#pragma unroll 2
  for (index_t i = at.first; i < l; i += at.step) {
    A gv[VEC], xv[VEC];
    load_pack<VEC>(g + at.plane * l + i, gv);
    load_pack<VEC>(x + at.plane * l + i, xv);
#pragma unroll
    for (int j = 0; j < VEC; ++j) gv[j] = gv[j] * scale - (xv[j] - m) * slope + offset;
    store_pack<VEC>(dx + at.plane * l + i, gv);
  }
}

// The running statistics moved towards the batch's, the variance unbiased.
template <class T, class A>
__global__ void __launch_bounds__(256)
norm_running(T* running_mean, T* running_var, const A* mean, const A* rstd, index_t c, double n, double momentum, double eps) {
  const index_t k = grid_thread();
  if (k >= c) return;
  const double r = double(rstd[k]), v = 1 / (r * r) - eps, unbiased = (v > 0 ? v : 0) * (n / (n - 1));
  store(running_mean + k, acc_t<T>(double(load(running_mean + k)) * (1 - momentum) + double(mean[k]) * momentum));
  store(running_var + k, acc_t<T>(double(load(running_var + k)) * (1 - momentum) + unbiased * momentum));
}
