// Layer, RMS, batch and group norm: xh = (x - mean) rstd, y = w xh + b, and the gradient (gradflow/ops/standardize.py).
//
// Layer, RMS, group and instance norm work on rows that are read once; the gradient of layer and RMS norm sums those of w
// and b as it passes: a block takes many rows and holds partial sums of its columns. A few long rows are made in pieces. A
// channel of batch norm that fits into shared memory is read once too. Larger ones, and the gradient of group norm, see x as
// planes, the l values of one sample's channel: a team reduces each plane, or a piece of it, to partial results, a second
// kernel merges those of a set in a fixed order, and a third makes y or dx, one weight and one pair of statistics to a plane:
// two reads and a write are the least where a channel is larger than the card's caches. Where planes are short, batch norm
// reduces the columns of x as an (n, c l) matrix instead. A variance is always that of differences from a mean: of
// registers, or of pieces by the pairwise update of Chan et al. (1979), so nothing cancels.
#include "row.cuh"

// The mean, or 0 without `centre`, and the sum of squared differences from it of `total` values: the e-th of partial results
// stands at place(e) and is of count(e) values.
template <class Team, class A, class Place, class Count>
__device__ __forceinline__ void merge_moments(const A* part_mean, const A* part_square, unsigned parts, A total, bool centre,
                                              Place place, Count count, A& m, A& q) {
  m = 0, q = 0;
  if (centre) {
#pragma unroll 2
    for (unsigned e = Team::rank(); e < parts; e += Team::size) m += part_mean[place(e)] * count(e);
    m = team_sum<Team>(m) / total;
  }
#pragma unroll 2
  for (unsigned e = Team::rank(); e < parts; e += Team::size) {
    const index_t p = place(e);
    const A d = part_mean[p] - m;
    q += part_square[p] + d * d * count(e);
  }
  q = team_sum<Team>(q);
}

// ---- rows ------------------------------------------------------------------------------------------------------------------

// The weights of the pack at place i of a row of n: each value's own, or that of a channel of l values; w may be null.
template <int VEC, class W, class A>
__device__ __forceinline__ void load_weight(const W* w, index_t i, index_t n, index_t l, A otherwise, A (&v)[VEC]) {
  if (!w) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) v[j] = otherwise;
  } else if (l == 0 && n % VEC == 0) {
    load_pack<VEC>(w + i, v);
  } else {
    const unsigned each = l ? unsigned(l) : 1u, first = i < 0 ? 0u : unsigned(i);
    unsigned c = first / each, r = first - c * each;
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      const bool own = i + j >= 0 && i + j < n;
      v[j] = own ? load(w + c) : otherwise;
      if (own && ++r == each) r = 0, ++c;
    }
  }
}

// Where the weights of a row begin: rows take `groups` runs of them in turn, of n / l each.
template <class W> __device__ __forceinline__ const W* weights_of(const W* w, index_t row, index_t n, index_t l, index_t groups) {
  return w && l ? w + unsigned(row) % unsigned(groups) * index_t(unsigned(n) / unsigned(l)) : w;
}

// y = (x - m) s w + b for a share of a row of n, whose place 0 is the row's place `from`.
template <class T, class Team, int E, int VEC, class W>
__device__ __forceinline__ void normalise(share<T, Team, E, VEC>& r, T* y, const W* w, const W* b, acc_t<T> m, acc_t<T> s,
                                          index_t from, index_t n, index_t l, bool mine) {
  using A = acc_t<T>;
  r.each([&](A (&v)[VEC], index_t i) {
    A wv[VEC], bv[VEC], out[VEC];
    load_weight<VEC>(w, from + i, n, l, A(1), wv);
    load_weight<VEC>(b, from + i, n, l, A(0), bv);
#pragma unroll
    for (int j = 0; j < VEC; ++j) out[j] = (v[j] - m) * s * wv[j] + bv[j];
    if (mine) r.put(y, i, out);
  });
}

// The statistics of each row, and y.
template <class T, class W, bool centre, class Team, int E, int VEC>
__global__ void __launch_bounds__(Team::threads, Team::resident)
norm_rows(const T* x, const W* w, const W* b, T* y, acc_t<T>* mean, acc_t<T>* rstd, index_t rows, index_t n, index_t l,
          index_t groups, double eps, int room) {
  using A = acc_t<T>;
  const place<Team> at(rows, n, 1);
  share<T, Team, E, VEC> r(x + at.first, n, 1, A(0), room, 0);
  w = weights_of(w, at.row, n, l, groups), b = weights_of(b, at.row, n, l, groups);
  A m = 0, s = 0;
  if (centre) {
    r.each([&](A (&v)[VEC], index_t) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) m += v[j];
    });
    m = team_sum<Team>(m) / A(n);
  }
  r.each([&](A (&v)[VEC], index_t i) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) s += r.own(i + j) ? (v[j] - m) * (v[j] - m) : A(0);
  });
  s = reciprocal_root(team_sum<Team>(s) / A(n) + A(eps));
  normalise(r, y + at.first, w, b, m, s, 0, n, l, at.mine);
  if (at.mine && Team::rank() == 0) {
    if (centre) mean[at.row] = m;
    rstd[at.row] = s;
  }
}

// The same of a few long rows, from what norm_plane_moments stored of their pieces; a null mean is 0.
template <class T, class W, int VEC>
__global__ void __launch_bounds__(piece_team::threads, piece_blocks<T>)
norm_finish(const T* x, const W* w, const W* b, const acc_t<T>* part_mean, const acc_t<T>* part_square, T* y, acc_t<T>* mean,
            acc_t<T>* rstd, index_t n, index_t l, index_t groups, index_t pieces, index_t each, double eps) {
  using A = acc_t<T>;
  const piece p(blockIdx.x, n, pieces, each);
  piece_share<T, VEC> r(x + p.first, p.size);
  const auto count = [=](unsigned k) { return A(n - k * each < each ? n - k * each : each); };
  A m, s;
  merge_moments<piece_team>(part_mean + p.row * pieces, part_square + p.row * pieces, unsigned(pieces), A(n), mean != nullptr,
                            [](unsigned k) { return index_t(k); }, count, m, s);
  s = reciprocal_root(s / A(n) + A(eps));
  normalise(r, y + p.first, weights_of(w, p.row, n, l, groups), weights_of(b, p.row, n, l, groups), m, s, p.from, n, l, true);
  if (p.from == 0 && threadIdx.x == 0) {
    if (mean) mean[p.row] = m;
    rstd[p.row] = s;
  }
}

// Partial sums of columns: what the threads of a block have of them in v, pack k of a thread standing at its share's k-th
// place, added up in a fixed order and written as one row of n.
template <class Team, int K, int VEC, class A>
__device__ __forceinline__ void store_columns(A (&v)[K][VEC], A* part, index_t n) {
  constexpr int SIZE = Team::size;
  __shared__ A total[Team::teams == 1 ? 1 : SIZE * K * VEC];
#pragma unroll
  for (int k = 0; k < K; ++k) {
    const int at = (Team::rank() + k * SIZE) * VEC;
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      if constexpr (Team::teams == 1) {
        if (at + j < n) part[at + j] = v[k][j];
      } else {
#pragma unroll
        for (int d = SIZE; d < 32; d *= 2) v[k][j] += __shfl_xor_sync(0xffffffffu, v[k][j], d);
      }
    }
  }
  if constexpr (Team::teams > 1) {
    const int t = block_thread();
    for (int warp = 0; warp < Team::threads / 32; ++warp) {
      __syncthreads();
      if (t / 32 == warp && t % 32 < SIZE) {
#pragma unroll
        for (int k = 0; k < K; ++k)
#pragma unroll
          for (int j = 0; j < VEC; ++j) {
            A& sum = total[(t % 32 + k * SIZE) * VEC + j];
            sum = warp ? sum + v[k][j] : v[k][j];
          }
      }
    }
    __syncthreads();
    for (int i = t; i < n; i += Team::threads) part[i] = total[i];
    __syncthreads();
  }
}

// dx = rstd (gw - <gw> - xh (<gw xh> + grstd rstd / n)) + gmean / n; without centre no <gw> and no gmean; null is zero.

// The sums a of g w and c of g w xh, of a share of a row of n whose place 0 is the row's place `from`. What registers keep of
// g and x is g w and xh from then on.
template <class T, class Team, int E, int VEC, class W>
__device__ __forceinline__ void gradient_sums(share<T, Team, E, VEC>& rg, share<T, Team, E, VEC>& rx, const W* w, acc_t<T> m,
                                              acc_t<T> r, index_t from, index_t n, acc_t<T>& a, acc_t<T>& c) {
  using A = acc_t<T>;
  rg.each(rx, [&](A (&gv)[VEC], A (&xv)[VEC], index_t i) {
    A wv[VEC];
    load_weight<VEC>(w, from + i, n, 0, A(1), wv);
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      gv[j] *= wv[j];
      xv[j] = (xv[j] - m) * r;
      a += gv[j];
      c += gv[j] * xv[j];
    }
  });
}

// From a row's sums a and c what is taken from every value: a from g w, and c xh.
template <class A>
__device__ __forceinline__ void gradient_means(A& a, A& c, index_t row, index_t n, A r, bool centre, const A* gmean, const A* grstd) {
  const A inverse = A(1) / A(n);
  c = (grstd ? c + grstd[row] * r : c) * inverse;
  a = centre ? (gmean ? a - gmean[row] / r : a) * inverse : A(0);
}

// dx; of values that are g w and xh already, or are g and x still.
template <bool already, class T, class Team, int E, int VEC, class W>
__device__ __forceinline__ void gradient_row(share<T, Team, E, VEC>& rg, share<T, Team, E, VEC>& rx, T* dx, const W* w, acc_t<T> m,
                                             acc_t<T> r, acc_t<T> a, acc_t<T> c, index_t from, index_t n, bool mine) {
  using A = acc_t<T>;
  rg.each(rx, [&](A (&gv)[VEC], A (&xv)[VEC], index_t i) {
    A wv[VEC], out[VEC];
    if (!already) load_weight<VEC>(w, from + i, n, 0, A(1), wv);
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      const A gw = already ? gv[j] : gv[j] * wv[j], xh = already ? xv[j] : (xv[j] - m) * r;
      out[j] = r * (gw - a - xh * c);
    }
    if (mine) rg.put(dx, i, out);
  });
}

// A row of part_g and of part_gx to each block gets its sums of g and of g xh over rows: for n a multiple of VEC, and rows in
// registers.
template <class T, class W, bool centre, class Team, int E, int VEC>
__global__ void __launch_bounds__(Team::threads, Team::resident)
norm_rows_backward(const T* g, const T* x, const W* w, const acc_t<T>* mean, const acc_t<T>* rstd, const acc_t<T>* gmean,
                   const acc_t<T>* grstd, T* dx, acc_t<T>* part_g, acc_t<T>* part_gx, index_t rows, index_t n, int room) {
  using A = acc_t<T>;
  using row_share = share<T, Team, E, VEC>;
  constexpr bool sums = row_share::kept;
  constexpr int K = sums ? E / VEC : 1;
  A sum_g[K][VEC] = {}, sum_gx[K][VEC] = {};
  for (index_t first = index_t(blockIdx.x) * Team::teams; first < rows; first += index_t(gridDim.x) * Team::teams) {
    const place<Team> at(rows, n, 1, first + threadIdx.y);
    row_share rg(g + at.first, n, 1, A(0), room, 0), rx(x + at.first, n, 1, A(0), room, 1);
    const A m = centre ? mean[at.row] : A(0), r = rstd[at.row];
    if constexpr (sums) {
#pragma unroll
      for (int k = 0; k < K; ++k)
        if (at.mine && rg.has(k)) {
#pragma unroll
          for (int j = 0; j < VEC; ++j) {
            sum_g[k][j] += rg.v[k][j];
            sum_gx[k][j] += rg.v[k][j] * ((rx.v[k][j] - m) * r);
          }
        }
    }
    A a = 0, c = 0;
    gradient_sums(rg, rx, w, m, r, 0, n, a, c);
    team_sums<Team>(a, c);
    gradient_means(a, c, at.row, n, r, centre, gmean, grstd);
    if (dx) gradient_row<row_share::kept>(rg, rx, dx + at.first, w, m, r, a, c, 0, n, at.mine);
  }
  if constexpr (sums) {
    if (part_g) store_columns<Team>(sum_g, part_g + blockIdx.x * n, n);
    if (part_gx) store_columns<Team>(sum_gx, part_gx + blockIdx.x * n, n);
  }
}

// The same of a few long rows: parts (rows, pieces, 2) are the two sums of each piece; a null mean is 0.
template <class T, class W, int VEC>
__global__ void __launch_bounds__(piece_team::threads, piece_blocks<T>)
norm_backward_parts(const T* g, const T* x, const W* w, const acc_t<T>* mean, const acc_t<T>* rstd, acc_t<T>* parts, index_t n,
                    index_t pieces, index_t each) {
  using A = acc_t<T>;
  const piece p(blockIdx.x, n, pieces, each);
  piece_share<T, VEC> rg(g + p.first, p.size), rx(x + p.first, p.size);
  A a = 0, c = 0;
  gradient_sums(rg, rx, w, mean ? mean[p.row] : A(0), rstd[p.row], p.from, n, a, c);
  team_sums<piece_team>(a, c);
  if (threadIdx.x == 0) parts[2 * blockIdx.x] = a, parts[2 * blockIdx.x + 1] = c;
}

template <class T, class W, int VEC>
__global__ void __launch_bounds__(piece_team::threads, piece_blocks<T>)
norm_backward_finish(const T* g, const T* x, const W* w, const acc_t<T>* mean, const acc_t<T>* rstd, const acc_t<T>* gmean,
                     const acc_t<T>* grstd, const acc_t<T>* parts, T* dx, index_t n, index_t pieces, index_t each) {
  using A = acc_t<T>;
  const piece p(blockIdx.x, n, pieces, each);
  piece_share<T, VEC> rg(g + p.first, p.size), rx(x + p.first, p.size);
  const A m = mean ? mean[p.row] : A(0), r = rstd[p.row];
  parts += 2 * p.row * pieces;
  A a = merge_sum<piece_team>(parts, pieces, 2), c = merge_sum<piece_team>(parts + 1, pieces, 2);
  gradient_means(a, c, p.row, n, r, mean != nullptr, gmean, grstd);
  gradient_row<false>(rg, rx, dx + p.first, w, m, r, a, c, p.from, n, true);
}

// ---- columns: an (m, n) matrix, 32 columns and some of the rows to a block -------------------------------------------------

// Partial sums of g and g xh over rows, which the statistics belong to.
template <class T, class Team>
__global__ void __launch_bounds__(Team::threads, 1)
norm_column_sums(const T* g, const T* x, const acc_t<T>* mean, const acc_t<T>* rstd, acc_t<T>* sum_g, acc_t<T>* sum_gx,
                 index_t m, index_t n, index_t rows_each) {
  using A = acc_t<T>;
  const bool mine = Team::row() < n;
  const index_t column = mine ? Team::row() : n - 1, from = blockIdx.y * rows_each;
  const index_t until = from + rows_each < m ? from + rows_each : m;
  A a = 0, c = 0;
#pragma unroll 4
  for (index_t i = from + Team::rank(); i < until; i += Team::size) {
    const A gv = load(g + i * n + column), xv = load(x + i * n + column);
    a += gv;
    c += gv * ((xv - (mean ? mean[i] : A(0))) * rstd[i]);
  }
  a = team_sum<Team>(a);
  c = team_sum<Team>(c);
  if (mine && Team::rank() == 0) {
    if (sum_g) sum_g[blockIdx.y * n + column] = a;
    if (sum_gx) sum_gx[blockIdx.y * n + column] = c;
  }
}

// ---- planes: pieces of `each` values of planes of l, `pieces` to a plane ---------------------------------------------------

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
  r.each([&](A (&v)[VEC], index_t i) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) q += r.own(i + j) ? (v[j] - s) * (v[j] - s) : A(0);
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
  const unsigned set = width ? unsigned(p.row) / unsigned(width) : unsigned(p.row) % unsigned(c);
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
  const unsigned across = unsigned(inner);
  A m, q;
  merge_moments<Team>(part_mean, part_square, unsigned(outer * inner), A(total), true,
                      [=](unsigned e) { return (e / across * sets + k) * inner + e % across; },
                      [=](unsigned e) { return n.template of<A>(e / across, e % across); }, m, q);
  if (mine && Team::rank() == 0) {
    mean[k] = m;
    rstd[k] = reciprocal_root(q / A(total) + A(eps));
  }
}

// Sums of partial sums, each first multiplied by its channel's weight if there are weights: channel k d + j / pieces of c.
template <class A, class W, class O, class Team>
__global__ void __launch_bounds__(Team::threads, 1)
norm_sums(const A* part_g, const A* part_gx, const W* w, O* sum_g, O* sum_gx, index_t sets, index_t outer,
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
    if (sum_g) store(sum_g + k, a);
    if (sum_gx) store(sum_gx + k, b);
  }
}

// ---- channels of (n, c, l) that a block holds in shared memory: one read and one write -------------------------------------

// The n l values of a channel, x standing at its first: thread t has packs t, t + 512, ... of VEC, which l is a multiple of.
template <class T, int VEC> struct channel {
  using P = pack<T, VEC>;
  P* near;
  unsigned l, packs;
  index_t apart;  // the planes of a channel
  __device__ __forceinline__ channel(index_t c, index_t l, index_t total, int which)
      : l(unsigned(l)), packs(unsigned(total) / VEC), apart(c * l) {
    extern __shared__ uint4 shared_channels[];
    near = reinterpret_cast<P*>(shared_channels) + which * packs;
  }
  __device__ __forceinline__ index_t place(unsigned k) const {
    const unsigned plane = k * VEC / l;
    return plane * apart + (k * VEC - plane * l);
  }
  __device__ __forceinline__ void fetch(const T* x) const {
    for (unsigned k = threadIdx.x; k < packs; k += 512) {
      if constexpr (sizeof(P) >= 4) copy_async<sizeof(P)>(near + k, x + place(k));
      else near[k] = *reinterpret_cast<const P*>(x + place(k));
    }
  }
};

template <class T, class W, int VEC>
__global__ void __launch_bounds__(512, 2)
norm_channels(const T* x, const W* w, const W* b, T* y, acc_t<T>* mean, acc_t<T>* rstd, index_t c, index_t l, index_t total,
              double eps) {
  using A = acc_t<T>;
  const channel<T, VEC> r(c, l, total, 0);
  r.fetch(x + blockIdx.x * l);
  copy_commit();
  copy_wait<0>();  // a thread reads what it copied itself: no barrier
  A m = 0, q = 0;
  for (unsigned k = threadIdx.x; k < r.packs; k += 512) {
    const pack<T, VEC> v = r.near[k];
#pragma unroll
    for (int j = 0; j < VEC; ++j) m += to_acc<T>(v.v[j]);
  }
  m = block_sum(m) / A(total);
  for (unsigned k = threadIdx.x; k < r.packs; k += 512) {
    const pack<T, VEC> v = r.near[k];
#pragma unroll
    for (int j = 0; j < VEC; ++j) q += (to_acc<T>(v.v[j]) - m) * (to_acc<T>(v.v[j]) - m);
  }
  q = reciprocal_root(block_sum(q) / A(total) + A(eps));
  const A scale = w ? q * load(w + blockIdx.x) : q, offset = b ? load(b + blockIdx.x) : A(0);
  for (unsigned k = threadIdx.x; k < r.packs; k += 512) {
    pack<T, VEC> v = r.near[k];
#pragma unroll
    for (int j = 0; j < VEC; ++j) v.v[j] = from_acc<T>((to_acc<T>(v.v[j]) - m) * scale + offset);
    store_whole(y + blockIdx.x * l + r.place(k), v);
  }
  if (threadIdx.x == 0) mean[blockIdx.x] = m, rstd[blockIdx.x] = q;
}

// dx, dw = sum g xh and db = sum g; those that are null are not wanted.
template <class T, class W, int VEC>
__global__ void __launch_bounds__(512, 2)
norm_channels_backward(const T* g, const T* x, const W* w, const acc_t<T>* mean, const acc_t<T>* rstd, const acc_t<T>* gmean,
                       const acc_t<T>* grstd, T* dx, W* dw, W* db, index_t c, index_t l, index_t total) {
  using A = acc_t<T>;
  const channel<T, VEC> rg(c, l, total, 0), rx(c, l, total, 1);
  rg.fetch(g + blockIdx.x * l);
  rx.fetch(x + blockIdx.x * l);
  copy_commit();
  const A m = mean[blockIdx.x], r = rstd[blockIdx.x], v = w ? load(w + blockIdx.x) : A(1);
  A a = 0, s = 0;
  copy_wait<0>();
  for (unsigned k = threadIdx.x; k < rg.packs; k += 512) {
    const pack<T, VEC> gv = rg.near[k], xv = rx.near[k];
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      a += to_acc<T>(gv.v[j]);
      s += to_acc<T>(gv.v[j]) * ((to_acc<T>(xv.v[j]) - m) * r);
    }
  }
  team_sums<lanes<512>>(a, s);
  if (threadIdx.x == 0) {
    if (dw) store(dw + blockIdx.x, acc_t<W>(s));
    if (db) store(db + blockIdx.x, acc_t<W>(a));
  }
  if (!dx) return;
  const A scale = r * v, slope = (s * v + (grstd ? grstd[blockIdx.x] * r : A(0))) / A(total) * r * r;
  const A offset = ((gmean ? gmean[blockIdx.x] : A(0)) - a * v * r) / A(total);
  for (unsigned k = threadIdx.x; k < rg.packs; k += 512) {
    pack<T, VEC> gv = rg.near[k];
    const pack<T, VEC> xv = rx.near[k];
#pragma unroll
    for (int j = 0; j < VEC; ++j)
      gv.v[j] = from_acc<T>(to_acc<T>(gv.v[j]) * scale - (to_acc<T>(xv.v[j]) - m) * slope + offset);
    store_whole(dx + blockIdx.x * l + rg.place(k), gv);
  }
}

// ---- element by element ----------------------------------------------------------------------------------------------------

// Threads along x go through a plane, those along y take planes; blocks along y share long planes.
struct plane_place {
  index_t plane, first;
  int step;
  unsigned channel, set;
  template <int VEC, class T> __device__ __forceinline__ void begin(const T* x, index_t l) {
    first = (index_t(blockIdx.y) * blockDim.x + threadIdx.x) * VEC - shift_of<VEC>(x + plane * l);
    step = int(gridDim.y * blockDim.x) * VEC;
  }
  __device__ __forceinline__ plane_place(index_t c, index_t width) {
    plane = index_t(blockIdx.x) * blockDim.y + threadIdx.y;
    channel = unsigned(plane) % unsigned(c);
    set = width ? unsigned(plane) / unsigned(width) : channel;
  }
};

// y = (x - mean) rstd w + b; with eps >= 0 what is given for rstd is a variance.
template <class T, class W, int VEC>
__global__ void __launch_bounds__(256, 1)
norm_apply(const T* __restrict__ x, const acc_t<T>* mean, const acc_t<T>* rstd, const W* w, const W* b, T* __restrict__ y, index_t planes, index_t l,
           index_t c, double eps) {
  using A = acc_t<T>;
  plane_place at(c, 0);
  if (at.plane >= planes) return;
  at.template begin<VEC>(x, l);
  const A m = mean[at.set], r = eps < 0 ? rstd[at.set] : reciprocal_root(rstd[at.set] + A(eps));
  const A scale = w ? r * load(w + at.channel) : r, offset = b ? load(b + at.channel) : A(0);
  x += at.plane * l, y += at.plane * l;
#pragma unroll 2
  for (index_t i = at.first; i < l; i += at.step) {
    A v[VEC];
    load_part<VEC>(x, i, l, A(0), v);
#pragma unroll
    for (int j = 0; j < VEC; ++j) v[j] = (v[j] - m) * scale + offset;
    store_part<VEC>(y, i, l, v);
  }
}

// dx, from a set's sums of g w and g w xh, or with `times` those of g and g xh, to be multiplied by its weight.
template <class T, class W, int VEC>
__global__ void __launch_bounds__(256, 1)
norm_dx(const T* __restrict__ g, const T* __restrict__ x, const W* w, const acc_t<T>* mean, const acc_t<T>* rstd, const acc_t<T>* gmean,
        const acc_t<T>* grstd, const acc_t<T>* sum_g, const acc_t<T>* sum_gx, T* __restrict__ dx, index_t planes, index_t l, index_t c,
        index_t width, double n, bool times) {
  using A = acc_t<T>;
  plane_place at(c, width);
  if (at.plane >= planes) return;
  at.template begin<VEC>(x, l);
  const A m = mean[at.set], r = rstd[at.set], v = w ? load(w + at.channel) : A(1), f = times ? v : A(1);
  const A scale = r * v, slope = (sum_gx[at.set] * f + (grstd ? grstd[at.set] * r : A(0))) / A(n) * r * r;
  const A offset = ((gmean ? gmean[at.set] : A(0)) - sum_g[at.set] * f * r) / A(n);
  g += at.plane * l, x += at.plane * l, dx += at.plane * l;
#pragma unroll 2
  for (index_t i = at.first; i < l; i += at.step) {
    A gv[VEC], xv[VEC];
    load_part<VEC>(g, i, l, A(0), gv);
    load_part<VEC>(x, i, l, A(0), xv);
#pragma unroll
    for (int j = 0; j < VEC; ++j) gv[j] = gv[j] * scale - (xv[j] - m) * slope + offset;
    store_part<VEC>(dx, i, l, gv);
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
