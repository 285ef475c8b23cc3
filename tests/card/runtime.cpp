// The card's machinery: device memory between guard pages, and blocks whose threads are fibers of one host thread.
// Built once; every kernel library finds these symbols in the process.
#include <card.h>

#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

#include <fiber.h>
#include <heap.h>

card_state card_now;
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

constexpr int most = 1024;
constexpr size_t stack_bytes = 128 << 10;

struct Fiber { void* sp; char* stack; };
struct Wait { int kind, lane; card_place at; unsigned mask; uint64_t value; };
struct Warp { unsigned alive, waiting; };
struct Copy { void* to; const void* from; size_t bytes, filled; };
static Fiber fibers[most];
struct Thread { int blocked, barrier; Fiber* fiber = fibers; Wait wait; };

static int fibers_made, fibers_idle;
static Fiber* idle[most];
static Fiber* current;
static Fiber scheduler;
static Thread threads[most];  // a thread that never waited has fiber 0, good enough to prefetch
static int awake[most], awake_head, awake_count;  // threads that may go on: a ring
static bool backwards;  // the order in which threads are woken; it alternates, so that no order is safe to rely on
static Warp warps[most / 32];
static std::vector<std::vector<Copy>> copies[most];  // per thread: committed groups, and the open one last
static bool copies_used;
static int arrived, barrier_sum, barrier_result;
static card_place barrier_at;
static void (*entry)(void**);

static inline void set_thread(int t) {
  card_now.thread = t;
  threadIdx.x = t;
  if (card_now.flat) return;
  threadIdx.x = t % blockDim.x;
  threadIdx.y = t / blockDim.x % blockDim.y;
  threadIdx.z = t / blockDim.x / blockDim.y;
}

static void fiber_main();

static Fiber* take_fiber() {
  if (fibers_idle) return idle[--fibers_idle];
  Fiber* f = &fibers[fibers_made++];
  if (!f->stack) {
    f->stack = (char*)mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mprotect(f->stack, page, PROT_NONE);
  }
  // Stacks at equal distances would all compete for the same cache lines: stagger them.
  f->sp = prepare(f->stack + stack_bytes - 64 - (f - fibers) % 61 * 64, fiber_main);
  return f;
}

// Leave the current fiber for whatever can run: a thread not started, a thread woken, else the scheduler.
static inline void switch_away(Fiber* from) {
  void* to = scheduler.sp;
  if (card_now.left > 0) {
    current = take_fiber();
    to = current->sp;
  } else if (awake_count > 0) {
    const int t = awake[awake_head], soon = awake[(awake_head + 3) % most];
    awake_head = (awake_head + 1) % most;
    --awake_count;
    __builtin_prefetch(threads[soon].fiber->sp);  // stacks are many and cold
    set_thread(t);
    current = threads[t].fiber;
    to = current->sp;
  }
  card_switch(&from->sp, to);
}

static void fiber_main() {
  for (;;) {
    entry(card_now.args);
    Fiber* me = current;
    idle[fibers_idle++] = me;
    switch_away(me);
  }
}

// ---- errors ---------------------------------------------------------------------------------------------------------
struct card_report {
  int code, line, write;
  uint64_t address, instruction;
  unsigned block[3], thread[3];
  char file[120], text[400];
};
static card_report report;
static std::vector<std::pair<char*, size_t>> shared_arrays;  // the dynamic one first, to name them when one is overrun
static size_t shared_bytes, shared_limit;
static sigjmp_buf escape;
#include <trace.h>
static volatile bool inside;
static char signal_stack[64 << 10];

[[noreturn]] static void leave(int code) {
  report.code = code;
  std::memcpy(report.block, &blockIdx, 12);
  std::memcpy(report.thread, &threadIdx, 12);
  fibers_made = fibers_idle = 0;  // every fiber is abandoned where it stands
  siglongjmp(escape, 1);
}

template <class... A> [[noreturn]] static void fail(card_place at, const char* format, A... a) {
  std::snprintf(report.text, sizeof report.text, format, a...);
  std::snprintf(report.file, sizeof report.file, "%s", at.file ? at.file : "");
  report.line = at.line;
  leave(1);
}
extern "C" void card_fail_at(const char* what, card_place at) { fail(at, "%s", what); }

static bool same(card_place a, card_place b) {
  return a.line == b.line && (a.file == b.file || !std::strcmp(a.file, b.file));
}

// What the compiler's checks call: -fsanitize=alignment,bounds,shift-exponent,return.
extern "C" {
struct Type { uint16_t kind, info; char name[1]; };
struct CheckedType { const char* file; uint32_t line, column; const Type* type; unsigned char log_alignment; };
void __ubsan_handle_type_mismatch_v1_abort(CheckedType* c, uintptr_t p) {
  fail({c->file, int(c->line)}, "misaligned address %#zx for %s, which needs a multiple of %d", p, c->type->name,
       1 << c->log_alignment);
}
void __ubsan_handle_out_of_bounds_abort(CheckedType* c, uintptr_t index) {
  fail({c->file, int(c->line)}, "index %lld is outside %s", (long long)index, c->type->name);
}
void __ubsan_handle_shift_out_of_bounds_abort(CheckedType* c, uintptr_t, uintptr_t by) {
  fail({c->file, int(c->line)}, "%s shifted by %lld bits", c->type->name, (long long)by);
}
void __ubsan_handle_missing_return(CheckedType* c) {
  fail({c->file, int(c->line)}, "a function ends without its return");
}
}

static void on_signal(int number, siginfo_t* info, void* context) {
  if (!inside) {  // not ours
    if (number != SIGRTMIN + 7) signal(number, SIG_DFL);
    return;
  }
  if (number == SIGRTMIN + 7) fail({nullptr, 0}, "still running: it waits for something that never happens");
  report.address = (uint64_t)info->si_addr;
  report.write = -1;
#if defined(__x86_64__) && defined(__linux__)
  report.instruction = ((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP];
  report.write = ((ucontext_t*)context)->uc_mcontext.gregs[REG_ERR] >> 1 & 1;
  if (info->si_code == SI_KERNEL) report.address = 0, number = SIGBUS;  // how a misaligned vector access shows
#endif
  for (int i = 0; i < fibers_made; ++i)
    if (report.address - (uint64_t)fibers[i].stack < page)
      std::snprintf(report.text, sizeof report.text, "the end of a thread's stack of %zu bytes", stack_bytes);
  for (const auto& s : shared_arrays)
    if (report.address - (uint64_t)s.first + guard < s.second + 2 * guard)
      std::snprintf(report.text, sizeof report.text, "byte %lld of a shared array of %zu bytes",
                    (long long)(report.address - (uint64_t)s.first), s.second);
  leave(100 + number);
}

// ---- what a running thread calls ------------------------------------------------------------------------------------
static void note_block() {  // the first call of a block that may wait; blocks that never wait pay nothing
  static uint64_t noted;
  if (noted == card_now.block) return;
  noted = card_now.block;
  const int n = card_now.threads;
  for (int i = 0; i < n; ++i) threads[i].blocked = threads[i].barrier = 0;
  for (int w = 0; w * 32 < n; ++w) warps[w] = {n - w * 32 >= 32 ? ~0u : (1u << (n - w * 32)) - 1, 0};
}

static void wait_here() {
  Thread& t = threads[card_now.thread];
  t.blocked = 1;
  t.fiber = current;
  ++card_now.waiting;
  switch_away(current);
}

static inline void wake(int i) {
  threads[i].blocked = threads[i].barrier = 0;
  awake[(awake_head + awake_count++) % most] = i;
  --card_now.waiting;
}

static void open_barrier() {
  const int n = card_now.threads;
  backwards = !backwards;
  for (int k = 0; k < n; ++k) {
    const int i = backwards ? n - 1 - k : k;
    if (threads[i].barrier) wake(i);
  }
  arrived = 0;
  barrier_result = barrier_sum;
  barrier_sum = 0;
}

extern "C" int card_barrier(int value, card_place at) {
  note_block();
  ++epochs[card_now.thread];
  if (arrived && !same(at, barrier_at))
    fail(at, "divergent barrier: this thread waits at line %d, others of its block at line %d", at.line,
         barrier_at.line);
  barrier_at = at;
  barrier_sum += value;
  if (++arrived == card_now.alive) {
    open_barrier();
  } else {
    threads[card_now.thread].barrier = 1;
    wait_here();
  }
  return barrier_result;
}

static void finish_warp(int first, unsigned group) {
  Thread* w = threads + first;
  const int leader = __builtin_ctz(group), kind = w[leader].wait.kind;
  for (unsigned g = group; g; g &= g - 1) {
    const Wait &a = w[leader].wait, &b = w[__builtin_ctz(g)].wait;
    if (a.kind == b.kind && a.mask == b.mask && same(a.at, b.at)) continue;
    fail(a.at,
         "divergent warp: lane %d calls a warp function at line %d with mask %08x, lane %d at line %d with mask %08x",
         leader, a.at.line, a.mask, __builtin_ctz(g), b.at.line, b.mask);
  }
  uint64_t old[32], all = w[leader].wait.value;
  void* lanes[32] = {};
  unsigned ballot = 0;
  for (unsigned g = group; g; g &= g - 1) {
    const int i = __builtin_ctz(g);
    const uint64_t v = old[i] = w[i].wait.value;
    const int sa = int(unsigned(all)), sv = int(unsigned(v));
    const unsigned ua = unsigned(all), uv = unsigned(v);
    if (v) ballot |= 1u << i;
    lanes[i] = (void*)v;
    if (i == leader) continue;
    switch (kind) {
      case CARD_ADD: all = ua + uv; break;
      case CARD_MIN_I: all = unsigned(sv < sa ? sv : sa); break;
      case CARD_MAX_I: all = unsigned(sv > sa ? sv : sa); break;
      case CARD_MIN_U: all = uv < ua ? uv : ua; break;
      case CARD_MAX_U: all = uv > ua ? uv : ua; break;
      case CARD_AND: all = ua & uv; break;
      case CARD_OR: all = ua | uv; break;
      case CARD_XOR: all = ua ^ uv; break;
    }
  }
  if (kind == CARD_BALLOT) all = ballot;
  if (kind == CARD_CALL) {
    trace::begin_call();
    (*(void (**)(void**))((char*)lanes[leader] + 16))(lanes);
    trace::end_call();
  }
  for (unsigned g = group; g; g &= g - 1) {
    const int i = __builtin_ctz(g);
    uint64_t& v = w[i].wait.value;
    if (kind == CARD_SHUFFLE) {
      const int from = w[i].wait.lane & 31;
      v = group >> from & 1 ? old[from] : ~uint64_t(0);  // from a lane that takes no part: undefined, so poison
    } else if (kind == CARD_MATCH) {
      v = 0;
      for (int j = 0; j < 32; ++j) v |= uint64_t(group >> j & 1 && old[j] == old[i]) << j;
    } else {
      v = all;
    }
    if (w[i].blocked) wake(first + i);
  }
}

static bool try_warp(int index) {
  Warp& warp = warps[index];
  for (unsigned g = warp.waiting; g; g &= g - 1) {
    const unsigned need = threads[index * 32 + __builtin_ctz(g)].wait.mask & warp.alive;
    if ((warp.waiting & need) != need) continue;
    warp.waiting &= ~need;
    finish_warp(index * 32, need);
    return true;
  }
  return false;
}

extern "C" uint64_t card_warp(int kind, unsigned mask, uint64_t value, int lane, card_place at) {
  note_block();
  const int t = card_now.thread;
  ++epochs[t];
  Warp& warp = warps[t / 32];
  if (!(mask >> (t & 31) & 1)) fail(at, "a warp function called by a lane that its mask %08x leaves out", mask);
  threads[t].wait = {kind, lane, at, mask, value};
  warp.waiting |= 1u << (t & 31);
  const unsigned need = mask & warp.alive;
  if ((warp.waiting & need) == need) {
    warp.waiting &= ~need;
    finish_warp(t & ~31, need);
  } else {
    wait_here();
  }
  return threads[t].wait.value;
}

extern "C" void card_thread_left() {  // somebody waits: perhaps only for this thread
  if (arrived && arrived == card_now.alive) open_barrier();
}

// Nobody can move: a warp may be waiting for lanes that have exited, which CUDA lets it go without.
static bool forget_exited() {
  bool moved = false;
  for (int w = 0; w * 32 < card_now.threads; ++w) {
    unsigned alive = 0;
    for (int i = 0; i < 32 && w * 32 + i < card_now.threads; ++i) alive |= unsigned(threads[w * 32 + i].blocked) << i;
    warps[w].alive = alive;
    while (try_warp(w)) moved = true;
  }
  return moved;
}

extern "C" void card_shared(card_slot* slot, size_t bytes, size_t align) {
  if (!slot->memory) {
    slot->memory = card_alloc(bytes, 0xff, align < 16 ? 16 : align);
    shared_arrays.push_back({(char*)slot->memory, bytes});
  }
  slot->bytes = bytes;
  slot->block = card_now.block;
  std::memset(slot->memory, 0xff, bytes);
  shared_bytes += bytes;
  if (shared_bytes > shared_limit) card_fail("too much shared memory: static and dynamic together exceed the limit");
}

static std::vector<std::vector<Copy>>& my_copies() {
  auto& c = copies[card_now.thread];
  if (c.empty()) c.emplace_back();
  copies_used = true;
  return c;
}
extern "C" void card_copy_async(void* shared, const void* global, size_t bytes, size_t filled) {
  if ((uintptr_t)shared % bytes || (filled && (uintptr_t)global % bytes))
    card_fail("misaligned address in an asynchronous copy");
  if (tracing) {
    const uint64_t place = uint64_t(__builtin_return_address(0));
    if (filled) trace::touch_range(uint64_t(global), filled, trace::LOAD | trace::ASYNC, place);
    trace::touch_range(uint64_t(shared), bytes, trace::STORE, place);
  }
  std::memset(shared, 0xff, bytes);
  my_copies().back().push_back({shared, global, bytes, filled});
}
extern "C" void card_copy_commit() { my_copies().emplace_back(); }
extern "C" void card_copy_wait(int groups) {
  auto& c = my_copies();
  while (int(c.size()) - 1 > groups) {
    for (const Copy& copy : c.front()) {
      std::memcpy(copy.to, copy.from, copy.filled);
      std::memset((char*)copy.to + copy.filled, 0, copy.bytes - copy.filled);
    }
    c.erase(c.begin());
  }
}

// ---- a block, a grid ------------------------------------------------------------------------------------------------
[[noreturn]] static void deadlock() {
  int at = -1, n = 0;
  for (int i = 0; i < card_now.threads; ++i)
    if (threads[i].blocked) ++n, at = at < 0 ? i : at;
  set_thread(at);
  const bool barrier = threads[at].barrier;
  fail(barrier ? barrier_at : threads[at].wait.at,
       "deadlock: %d threads wait, this one at %s; %d are at a barrier (line %d), %d have exited", n,
       barrier ? "a barrier" : "a warp function", arrived, arrived ? barrier_at.line : 0,
       card_now.threads - card_now.alive);
}

static void run_block(int n, bool reverse) {
  card_now.left = card_now.alive = n;
  card_now.waiting = 0;
  card_now.next = reverse ? n - 1 : 0;
  card_now.step = reverse ? -1 : 1;
  ++card_now.block;
  if (tracing) trace::begin_block();
  arrived = barrier_sum = awake_count = 0;
  threadIdx = {0, 0, 0};
  current = take_fiber();
  card_switch(&scheduler.sp, current->sp);
  while (card_now.alive > 0) {  // back here: nobody can run
    if (!forget_exited()) deadlock();
    switch_away(&scheduler);
  }
  if (tracing) trace::flush();
}

struct card_launch {
  void (*run)(void**);
  void** args;
  unsigned grid[3], block[3];
  uint64_t shared, limit;
  double seconds;
  int backwards;  // last block and last thread first: results must not depend on the order
};

// A kernel that spins forever would hang the tests: a timer of the launching thread ends it.
static void set_timer(double seconds) {
#if defined(__linux__)
  static thread_local timer_t timer;
  static thread_local bool made;
  if (!made) {
    sigevent event = {};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGRTMIN + 7;
    event._sigev_un._tid = gettid();
    made = timer_create(CLOCK_MONOTONIC, &event, &timer) == 0;
  }
  itimerspec when = {};
  when.it_value.tv_sec = time_t(seconds);
  when.it_value.tv_nsec = long((seconds - time_t(seconds)) * 1e9);
  if (made) timer_settime(timer, 0, &when, nullptr);
#endif
}

extern "C" int card_launch_kernel(const card_launch* launch, card_report* out) {
  static char* arena = (char*)map(1 << 18);
  const size_t shared = whole(launch->shared, 16);
  if (shared_arrays.empty()) shared_arrays.emplace_back();
  shared_arrays[0] = {arena + (1 << 18) - shared, shared};
  entry = launch->run;
  card_now.args = launch->args;
  card_now.dynamic_shared = arena + (1 << 18) - shared;
  const int n = card_now.threads = launch->block[0] * launch->block[1] * launch->block[2];
  card_now.flat = launch->block[1] * launch->block[2] == 1;
  blockDim = dim3(launch->block[0], launch->block[1], launch->block[2]);
  gridDim = dim3(launch->grid[0], launch->grid[1], launch->grid[2]);
  std::memset(&report, 0, sizeof report);

  const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGRTMIN + 7};
  struct sigaction mine = {}, old[6];
  stack_t ours = {}, theirs;
  ours.ss_sp = signal_stack;
  ours.ss_size = sizeof signal_stack;
  sigaltstack(&ours, &theirs);
  mine.sa_sigaction = on_signal;
  mine.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (int i = 0; i < 6; ++i) sigaction(numbers[i], &mine, &old[i]);
  set_timer(launch->seconds);
  if (sigsetjmp(escape, 1) == 0) {
    inside = true;
    shared_limit = launch->limit;
    bool reverse = backwards = launch->backwards;
    for (unsigned z = 0; z < gridDim.z; ++z)
      for (unsigned y = 0; y < gridDim.y; ++y)
        for (unsigned x = 0; x < gridDim.x; ++x) {
          blockIdx = {x, y, z};
          if (launch->backwards) blockIdx = {gridDim.x - 1 - x, gridDim.y - 1 - y, gridDim.z - 1 - z};
          shared_bytes = launch->shared;
          if (shared) std::memset(card_now.dynamic_shared, 0xff, shared);
          if (copies_used) {
            for (auto& c : copies) c.clear();
            copies_used = false;
          }
          run_block(n, reverse);
          reverse = !reverse;
        }
  }
  inside = false;
  set_timer(0);
  for (int i = 0; i < 6; ++i) sigaction(numbers[i], &old[i], nullptr);
  sigaltstack(&theirs, nullptr);
  *out = report;
  return report.code;
}
