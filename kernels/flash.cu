// Attention without its weights in memory: y = softmax(scale q k^T + mask) v and its gradients (Dao 2023, FlashAttention-2).
//
// Forward: a block keeps a tile of queries and streams keys and values past it. Of each row of scores it carries the largest
// so far and the sum of exponentials (Milakov and Gimelshein 2018), and what was summed is scaled down when the largest grows
// by much. Beside y only each row's log2 of the sum of 2^scores is kept, from which the gradients' kernels make the weights p
// again:
//     dv = p^T g      dp = g v^T      ds = p (dp - delta), delta = sum of g y over a row      dq = ds k      dk = ds^T q
// One block of queries sums dq over the keys, one block of keys sums dk and dv over the queries of all heads that share it:
// every sum has one owner and one order. Scores are in powers of 2: scale and mask come multiplied by log2 e. Dropout takes
// its bits from the numbers' places in the matrix of weights, as dropout of such a matrix would.
#include "flash.cuh"

struct strides { index_t b, h, l; };  // between examples, heads and rows; in a row numbers are neighbours

struct problem {
  int queries, keys, e, f;       // l, s and the sizes of a row of q and k, and of v
  int heads, group, pairs;       // heads of q, how many of them share a head of k and v, examples times heads
  int causal, packed;            // packed, a bit for each of q k v y g dq dk dv: 16 bytes of it can move at once
  float scale, back, keep;       // scale log2 e, scale, and what is kept is multiplied by keep
  strides q, k, v, y, g, dq, dk, dv, mask;
  index_t mask_key;              // between the mask's keys
  word key, counter, limit;      // of dropout; limit is 0 if there is none
};
enum { Q, K, V, Y, G, DQ, DK, DV };
__device__ __forceinline__ bool packed(const problem& p, int which) { return p.packed >> which & 1; }

// Where a block works: rows from `first` on of head `head` (of the `heads` that there are) of example b. Of queries under a
// causal mask the last see most keys, and of keys the first are seen most: such blocks start first.
struct place {
  int b, head, first;
  __device__ __forceinline__ place(int rows, int tile, int pairs, int heads, bool causal, bool last_first) {
    const unsigned tiles = unsigned(ceil_div(rows, tile)), at = blockIdx.x;
    const unsigned pair = causal ? at % unsigned(pairs) : at / tiles;
    unsigned t = causal ? at / unsigned(pairs) : at % tiles;
    if (causal && last_first) t = tiles - 1 - t;
    b = pair / unsigned(heads), head = pair % unsigned(heads), first = int(t) * tile;
  }
};
template <class T> __device__ __forceinline__ T* head_of(T* x, const strides& s, int b, int h) { return x + b * s.b + h * s.h; }

// Which scores of a head count, and what is added to them.
template <class T> struct masking {
  const bool* seen;
  const T* bias;
  __device__ __forceinline__ masking(const problem& p, const bool* seen, const T* bias, int b, int h)
      : seen(seen ? head_of(seen, p.mask, b, h) : nullptr), bias(bias ? head_of(bias, p.mask, b, h) : nullptr) {}

  // What scores are to be multiplied by after `apply`.
  __device__ __forceinline__ float scale(const problem& p) const { return seen || bias ? 1.0f : p.scale; }

  // f(score, query, key) for all of a tile: its rows are queries and its columns keys, or if SWAPPED the other way; both given
  // by their first.
  template <class E, bool SWAPPED, class F>
  static __device__ __forceinline__ void each(typename E::scores& s, int rows, int cols, F f) {
#pragma unroll
    for (int r = 0; r < E::R; ++r)
#pragma unroll
      for (int c = 0; c < E::scores::C; ++c) {
        const int row = rows + E::row(r), col = cols + E::col(c);
        f(s(r, c), SWAPPED ? col : row, SWAPPED ? row : col);
      }
  }

  template <class E, bool SWAPPED>
  __device__ __forceinline__ void apply(const problem& p, typename E::scores& s, int rows, int cols) const {
    if (seen || bias) {
      each<E, SWAPPED>(s, rows, cols, [&](float& x, int query, int key) {
        x *= p.scale;
        if (query >= p.queries || key >= p.keys) return;
        const index_t i = query * p.mask.l + key * p.mask_key;
        if (bias) x += load(bias + i) * 1.44269504f;
        if (seen && !seen[i]) x = -infinity<float>();
      });
    }
    const int queries = SWAPPED ? cols : rows, keys = SWAPPED ? rows : cols, end = keys + (SWAPPED ? E::ROWS : E::COLS);
    if (end > p.keys || (p.causal && end > queries + 1)) {
      each<E, SWAPPED>(s, rows, cols, [&](float& x, int query, int key) {
        if (key >= p.keys || (p.causal && key > query)) x = -infinity<float>();
      });
    }
  }
};

// f(r, c, whether dropout keeps that weight) for every number of a tile, in the order of `apply`.
template <class E, bool SWAPPED, class F>
__device__ __forceinline__ void each_kept(const problem& p, const word* replay, int b, int h, int rows, int cols, F f) {
  const draws d{p.key, p.counter, p.limit, replay};
  const index_t head = (index_t(b) * p.heads + h) * p.queries;
  if constexpr (SWAPPED) {
    const int mine = E::warp() * E::OWN;
#pragma unroll
    for (int c = 0; c < E::scores::C; ++c) {
      const word bits = d.template kept<E::OWN, E::COL_LANES, E::COL_STEP>((head + cols + E::col(c)) * p.keys + rows + mine);
#pragma unroll
      for (int r = 0; r < E::R; ++r) f(r, c, bits >> (E::row(r) - mine) & 1);
    }
  } else {
#pragma unroll
    for (int r = 0; r < E::R; ++r) {
      const word bits = d.template kept<E::COLS, E::ROW_LANES, E::ROW_STEP>((head + rows + E::row(r)) * p.keys + cols);
#pragma unroll
      for (int c = 0; c < E::scores::C; ++c) f(r, c, bits >> E::col(c) & 1);
    }
  }
}

// What a loop does at its turn n: begins to fetch tiles, and waits for its own. `begin(n)` fetches those of turn n.
template <class E, class F> __device__ __forceinline__ void take_turn(int n, int turns, F begin) {
  if constexpr (E::STAGES == 1) {
    if (n) {
      __syncthreads();  // all have read the tiles of the turn before
      begin(n);
      copy_commit();
    }
  }
  copy_wait<0>();
  __syncthreads();
  if constexpr (E::STAGES == 2) {
    if (n + 1 < turns) {
      begin(n + 1);
      copy_commit();
    }
  }
}

// Two tiles that stream together, one pair for each stage.
template <class E> struct pair_of_tiles {
  typename E::T* memory;
  __device__ __forceinline__ typename E::T* operator()(int n, int which) const {
    return memory + (n % E::STAGES * 2 + which) * (E::COLS * E::PITCH);
  }
};

template <class T> __device__ __forceinline__ T* shared_memory() {
  extern __shared__ float4 memory[];
  return reinterpret_cast<T*>(memory);
}

// y and, per row, the log2 of the sum of 2^scores (infinite where nothing is seen: then the weights are zeros).
template <class E>
__global__ void __launch_bounds__(E::THREADS, E::BLOCKS)
attention_forward(const typename E::T* q, const typename E::T* k, const typename E::T* v, const bool* seen,
                  const typename E::T* bias, typename E::T* y, float* lse, const word* replay, const problem p) {
  using T = typename E::T;
  constexpr float much = 8;  // weights up to 2^8 times too large do no harm
  const place at(p.queries, E::ROWS, p.pairs, p.heads, p.causal, true);
  const int h = at.head, first = at.first;
  const typename E::source queries{head_of(q, p.q, at.b, h), p.q.l, p.queries, p.e, packed(p, Q)};
  const typename E::source keys{head_of(k, p.k, at.b, h / p.group), p.k.l, p.keys, p.e, packed(p, K)};
  const typename E::source values{head_of(v, p.v, at.b, h / p.group), p.v.l, p.keys, p.f, packed(p, V)};
  T* own = shared_memory<T>();
  const pair_of_tiles<E> stream{own + E::ROWS * E::PITCH};
  float* scratch = reinterpret_cast<float*>(stream.memory + E::STAGES * 2 * E::COLS * E::PITCH);
  const auto begin = [&](int n) {
    keys.template fetch<E::COLS>(stream(n, 0), n * E::COLS);
    values.template fetch<E::COLS>(stream(n, 1), n * E::COLS);
  };
  const int last = p.causal ? min(p.keys, first + E::ROWS) : p.keys, turns = int(ceil_div(last, E::COLS));
  queries.template fetch<E::ROWS>(own, first);
  begin(0);
  copy_commit();

  const masking<T> mask(p, seen, bias, at.b, h);
  typename E::result o = {};
  float top[E::R], sum[E::R] = {}, factor[E::R];
#pragma unroll
  for (int r = 0; r < E::R; ++r) top[r] = -infinity<float>();
  for (int n = 0; n < turns; ++n) {
    take_turn<E>(n, turns, begin);
    const int start = n * E::COLS;
    typename E::scores s = {};
    E::add_scores(s, own, stream(n, 0));
    constexpr int C = E::scores::C;
    mask.template apply<E, false>(p, s, first, start);
    const float scale = mask.scale(p);
    float now[E::R];
    bool grown = false;
#pragma unroll
    for (int r = 0; r < E::R; ++r) {
      now[r] = s(r, 0);
#pragma unroll
      for (int c = 1; c < C; ++c) now[r] = fmaxf(now[r], s(r, c));
      now[r] = shared_reduce<E::ROW_LANES, E::ROW_STEP>(now[r], larger_of()) * scale;
      grown |= now[r] > top[r] + much;
    }
    if (__any_sync(0xffffffffu, grown)) {
#pragma unroll
      for (int r = 0; r < E::R; ++r) {
        const float next = fmaxf(top[r], now[r]), less = next == -infinity<float>() ? 1.0f : exp2_fast(top[r] - next);
        top[r] = next;
        sum[r] *= less;
#pragma unroll
        for (int c = 0; c < E::result::C; ++c) o(r, c) *= less;
      }
    }
#pragma unroll
    for (int r = 0; r < E::R; ++r) {
      const float base = top[r] == -infinity<float>() ? 0.0f : top[r];
#pragma unroll
      for (int c = 0; c < C; ++c) {
        s(r, c) = exp2_fast(s(r, c) * scale - base);
        sum[r] += s(r, c);
      }
    }
    if (p.limit) {
      each_kept<E, false>(p, replay, at.b, h, first, start, [&](int r, int c, bool kept) { s(r, c) = kept ? s(r, c) : 0; });
    }
    E::add_result(o, s, stream(n, 1), scratch);
  }
  copy_wait<0>();
#pragma unroll
  for (int r = 0; r < E::R; ++r) {
    sum[r] = shared_reduce<E::ROW_LANES, E::ROW_STEP>(sum[r], sum_of());
    factor[r] = sum[r] == 0 ? 0 : p.keep / sum[r];
    const int row = first + E::row(r);
    if (E::lane() % E::ROW_LANES == 0 && row < p.queries)
      lse[(index_t(at.b) * p.heads + h) * p.queries + row] = sum[r] == 0 ? infinity<float>() : top[r] + log2f(sum[r]);
  }
  if (turns == 0) __syncthreads();
  __syncwarp();  // its queries are read: their place is free
  E::put(own, o, factor);
  __syncwarp();
  E::write(head_of(y, p.y, at.b, h), p.y.l, first, p.queries, p.f, packed(p, Y), own);
}

// dq and delta: queries stay, keys and values stream.
template <class E>
__global__ void __launch_bounds__(E::THREADS, E::BLOCKS)
attention_backward_queries(const typename E::T* q, const typename E::T* k, const typename E::T* v, const bool* seen,
                           const typename E::T* bias, const typename E::T* y, const typename E::T* g, const float* lse,
                           typename E::T* dq, float* delta, const word* replay, const problem p) {
  using T = typename E::T;
  const place at(p.queries, E::ROWS, p.pairs, p.heads, p.causal, true);
  const int h = at.head, first = at.first;
  const typename E::source queries{head_of(q, p.q, at.b, h), p.q.l, p.queries, p.e, packed(p, Q)};
  const typename E::source keys{head_of(k, p.k, at.b, h / p.group), p.k.l, p.keys, p.e, packed(p, K)};
  const typename E::source values{head_of(v, p.v, at.b, h / p.group), p.v.l, p.keys, p.f, packed(p, V)};
  const typename E::source gradients{head_of(g, p.g, at.b, h), p.g.l, p.queries, p.f, packed(p, G)};
  y = head_of(y, p.y, at.b, h);
  T* own = shared_memory<T>();
  T* own_g = own + E::ROWS * E::PITCH;
  const pair_of_tiles<E> stream{own_g + E::ROWS * E::PITCH};
  float* scratch = reinterpret_cast<float*>(stream.memory + E::STAGES * 2 * E::COLS * E::PITCH);
  const auto begin = [&](int n) {
    keys.template fetch<E::COLS>(stream(n, 0), n * E::COLS);
    values.template fetch<E::COLS>(stream(n, 1), n * E::COLS);
  };
  const int last = p.causal ? min(p.keys, first + E::ROWS) : p.keys, turns = int(ceil_div(last, E::COLS));
  queries.template fetch<E::ROWS>(own, first);
  gradients.template fetch<E::ROWS>(own_g, first);
  copy_commit();
  copy_wait<0>();
  __syncthreads();
  begin(0);
  copy_commit();

  float top[E::R], less[E::R], factor[E::R];  // the rows' lse and delta
#pragma unroll
  for (int r = 0; r < E::R; ++r) {
    const int row = first + E::row(r);
    const index_t i = (index_t(at.b) * p.heads + h) * p.queries + row;
    float sum = 0;
    if (row < p.queries) {
      const T* from = y + row * p.y.l;
      for (int c = E::lane() % E::ROW_LANES * E::PACK; c < p.f; c += E::ROW_LANES * E::PACK) {
        const T* piece = own_g + E::row(r) * E::PITCH + c;
        if (packed(p, Y)) {
          const pack<T, E::PACK> u = *reinterpret_cast<const pack<T, E::PACK>*>(from + c);
#pragma unroll
          for (int j = 0; j < E::PACK; ++j) sum += to_acc(piece[j]) * to_acc(u.v[j]);
        } else {
          for (int j = 0; j < E::PACK && c + j < p.f; ++j) sum += to_acc(piece[j]) * load(from + c + j);
        }
      }
    }
    less[r] = shared_reduce<E::ROW_LANES, E::ROW_STEP>(sum, sum_of());
    top[r] = row < p.queries ? lse[i] : infinity<float>();
    factor[r] = p.back;
    if (E::lane() % E::ROW_LANES == 0 && row < p.queries) delta[i] = less[r];
  }

  const masking<T> mask(p, seen, bias, at.b, h);
  typename E::result o = {};
  for (int n = 0; n < turns; ++n) {
    take_turn<E>(n, turns, begin);
    typename E::scores s = {}, ds = {};
    E::add_scores(s, own, stream(n, 0));
    E::add_scores(ds, own_g, stream(n, 1));
    mask.template apply<E, false>(p, s, first, n * E::COLS);
    if (p.limit) {
      each_kept<E, false>(p, replay, at.b, h, first, n * E::COLS,
                          [&](int r, int c, bool kept) { ds(r, c) = kept ? ds(r, c) * p.keep : 0; });
    }
    const float scale = mask.scale(p);
#pragma unroll
    for (int r = 0; r < E::R; ++r)
#pragma unroll
      for (int c = 0; c < E::scores::C; ++c) ds(r, c) = exp2_fast(s(r, c) * scale - top[r]) * (ds(r, c) - less[r]);
    E::add_result(o, ds, stream(n, 0), scratch);
  }
  copy_wait<0>();
  __syncwarp();  // its queries are read: their place is free
  E::put(own, o, factor);
  __syncwarp();
  if (dq) E::write(head_of(dq, p.dq, at.b, h), p.dq.l, first, p.queries, p.e, packed(p, DQ), own);
}

// dk and dv: keys and values stay, the queries and gradients of all heads that share them stream.
template <class E>
__global__ void __launch_bounds__(E::THREADS, E::BLOCKS)
attention_backward_keys(const typename E::T* q, const typename E::T* k, const typename E::T* v, const bool* seen,
                        const typename E::T* bias, const typename E::T* g, const float* lse, const float* delta,
                        typename E::T* dk, typename E::T* dv, const word* replay, const problem p) {
  using T = typename E::T;
  const int shared_heads = p.heads / p.group;
  const place at(p.keys, E::ROWS, p.pairs / p.group, shared_heads, p.causal, false);
  const int first = at.first;
  const typename E::source keys{head_of(k, p.k, at.b, at.head), p.k.l, p.keys, p.e, packed(p, K)};
  const typename E::source values{head_of(v, p.v, at.b, at.head), p.v.l, p.keys, p.f, packed(p, V)};
  const typename E::source queries{head_of(q, p.q, at.b, 0), p.q.l, p.queries, p.e, packed(p, Q)};
  const typename E::source gradients{head_of(g, p.g, at.b, 0), p.g.l, p.queries, p.f, packed(p, G)};
  T* own = shared_memory<T>();
  T* own_v = own + E::ROWS * E::PITCH;
  const pair_of_tiles<E> stream{own_v + E::ROWS * E::PITCH};
  float* scratch = reinterpret_cast<float*>(stream.memory + E::STAGES * 2 * E::COLS * E::PITCH);
  float* tops = scratch + E::SCRATCH;  // lse and then delta of the queries that stream, for each stage
  const int skipped = p.causal ? first / E::COLS : 0;  // tiles of queries before all these keys
  const int tiles = max(int(ceil_div(p.queries, E::COLS)) - skipped, 0), turns = tiles * p.group;
  struct turn {  // its number, head and first query
    int n, h, start;
    __device__ __forceinline__ void next(const problem& p, int again) {
      ++n, start += E::COLS;
      if (start >= p.queries) start = again, ++h;
    }
  };
  turn now{0, at.head * p.group, skipped * E::COLS};
  const auto begin = [&](int n) {
    turn t = now;
    if (t.n < n) t.next(p, skipped * E::COLS);
    queries.template fetch<E::COLS>(stream(n, 0), t.start, t.h * p.q.h);
    gradients.template fetch<E::COLS>(stream(n, 1), t.start, t.h * p.g.h);
    const index_t from = (index_t(at.b) * p.heads + t.h) * p.queries + t.start;
    float* to = tops + n % E::STAGES * 2 * E::COLS;
    for (int i = threadIdx.x; i < 2 * E::COLS; i += E::THREADS) {
      const int c = i % E::COLS;
      copy_async<4>(to + i, (i < E::COLS ? lse : delta) + from + c, t.start + c < p.queries);
    }
  };
  keys.template fetch<E::ROWS>(own, first);
  values.template fetch<E::ROWS>(own_v, first);
  if (turns) begin(0);
  copy_commit();

  typename E::result ok = {}, ov = {};
  while (now.n < turns) {
    const int n = now.n;
    take_turn<E>(n, turns, begin);
    const float *top = tops + n % E::STAGES * 2 * E::COLS, *less = top + E::COLS;
    typename E::scores s = {}, ds = {};
    E::add_scores(s, own, stream(n, 0));
    E::add_scores(ds, own_v, stream(n, 1));
    const masking<T> mask(p, seen, bias, at.b, now.h);
    mask.template apply<E, true>(p, s, first, now.start);
    const float scale = mask.scale(p);
#pragma unroll
    for (int c = 0; c < E::scores::C; ++c)
#pragma unroll
      for (int r = 0; r < E::R; ++r) s(r, c) = exp2_fast(s(r, c) * scale - top[E::col(c)]);
    const auto gradient = [&](int r, int c, bool kept) {
      ds(r, c) = s(r, c) * ((kept ? ds(r, c) * p.keep : 0.0f) - less[E::col(c)]);
      s(r, c) = kept ? s(r, c) : 0;
    };
    if (p.limit) {
      each_kept<E, true>(p, replay, at.b, now.h, first, now.start, gradient);
    } else {
#pragma unroll
      for (int c = 0; c < E::scores::C; ++c)
#pragma unroll
        for (int r = 0; r < E::R; ++r) ds(r, c) = s(r, c) * (ds(r, c) - less[E::col(c)]);
    }
    E::add_result(ov, s, stream(n, 1), scratch);
    E::add_result(ok, ds, stream(n, 0), scratch);
    now.next(p, skipped * E::COLS);
  }
  copy_wait<0>();
  if (turns == 0) __syncthreads();
  float back[E::R], keep[E::R];
#pragma unroll
  for (int r = 0; r < E::R; ++r) back[r] = p.back, keep[r] = p.keep;
  __syncwarp();  // its keys and values are read: their places are free
  E::put(own, ok, back);
  E::put(own_v, ov, keep);
  __syncwarp();
  if (dk) E::write(head_of(dk, p.dk, at.b, at.head), p.dk.l, first, p.keys, p.e, packed(p, DK), own);
  if (dv) E::write(head_of(dv, p.dv, at.b, at.head), p.dv.l, first, p.keys, p.f, packed(p, DV), own_v);
}
