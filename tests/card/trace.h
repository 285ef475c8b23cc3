// Counting what a kernel moves. Texts are compiled a second time with -fsanitize=thread, which puts a call before every
// access to memory; the calls end here instead of in the sanitizer's own library.
//
// Lanes of a warp meet in one access when they come from the same instruction, for the same time since they last waited
// for each other. From such a group come the 32-byte sectors of device memory it touches, and the cycles that the 32
// banks of shared memory need for it: accesses of 8 bytes go by half warps, of 16 bytes by quarters.
#pragma once
#include <algorithm>
#include <bitset>
#include <unordered_map>

struct card_traffic {
  uint64_t loaded, stored;            // bytes of device memory, every thread's
  uint64_t loads, stores;             // instructions of threads
  uint64_t wide_loaded, wide_stored;  // bytes that moved 16 at a time
  uint64_t load_requests, store_requests, load_sectors, store_sectors;  // of warps
  uint64_t load_used, store_used;     // distinct bytes of each request
  uint64_t distinct_loaded, distinct_stored;  // distinct bytes in the whole launch
  uint64_t async_loaded;              // bytes of `loaded` by cp.async
  uint64_t shared_loaded, shared_stored, shared_requests, shared_cycles, shared_least;
};
static card_traffic traffic;
static bool tracing;
static uint32_t epochs[1024];  // how often each thread of the block has waited for others

namespace trace {
enum { LOAD = 0, STORE = 1, SHARED = 2, ASYNC = 4 };
struct Access { uint64_t place; uint32_t epoch, turn; uint16_t thread; uint8_t kind, bytes; uint64_t address; };
struct Turn { uint32_t epoch, turn; };
struct Page { std::bitset<4096> loaded, stored; };
static std::vector<Access> accesses;
static std::vector<uint64_t> call_reads;  // words of shared memory that a warp-wide call reads, in its order
static bool in_call;
static std::unordered_map<uint64_t, Turn> turns;
static std::unordered_map<uint64_t, Page> pages;
static const uint64_t* ranges;  // first and one past the last byte of each array, ascending
static int range_count, last_range;

static bool in_range(int r, uint64_t p) { return ranges[2 * r] <= p && p < ranges[2 * r + 1]; }
static bool on_device(uint64_t p) {
  if (last_range < range_count && in_range(last_range, p)) return true;
  int low = 0, high = range_count;
  while (low < high) {
    const int mid = (low + high) / 2;
    if (ranges[2 * mid + 1] <= p) low = mid + 1; else high = mid;
  }
  if (low == range_count || !in_range(low, p)) return false;
  last_range = low;
  return true;
}

static void group(const Access* a, const Access* end) {
  static std::vector<uint64_t> units;
  const bool store = a->kind & STORE;
  units.clear();
  if (!(a->kind & SHARED)) {
    for (const Access* i = a; i < end; ++i)
      for (int b = 0; b < i->bytes; ++b) units.push_back(i->address + b);
    std::sort(units.begin(), units.end());
    units.erase(std::unique(units.begin(), units.end()), units.end());
    uint64_t sectors = 0, last = ~uint64_t(0);
    for (uint64_t u : units)
      if (u / 32 != last) ++sectors, last = u / 32;
    ++(store ? traffic.store_requests : traffic.load_requests);
    (store ? traffic.store_sectors : traffic.load_sectors) += sectors;
    (store ? traffic.store_used : traffic.load_used) += units.size();
    return;
  }
  const int together = a->bytes > 8 ? 8 : a->bytes > 4 ? 16 : 32;  // lanes served at a time
  ++traffic.shared_requests;
  for (int first = 0; first < 32; first += together) {
    units.clear();
    for (const Access* i = a; i < end; ++i)
      if (i->thread % 32 / together * together == first)
        for (uint64_t w = i->address / 4; w <= (i->address + i->bytes - 1) / 4; ++w) units.push_back(w);
    if (units.empty()) continue;
    std::sort(units.begin(), units.end());
    units.erase(std::unique(units.begin(), units.end()), units.end());
    int banks[32] = {};
    for (uint64_t w : units) ++banks[w % 32];
    traffic.shared_cycles += *std::max_element(banks, banks + 32);
    ++traffic.shared_least;
  }
}

static bool before(const Access& a, const Access& b) {
  const uint32_t i = a.thread / 32, j = b.thread / 32;
  if (i != j) return i < j;
  if (a.place != b.place) return a.place < b.place;
  if (a.epoch != b.epoch) return a.epoch < b.epoch;
  if (a.turn != b.turn) return a.turn < b.turn;
  return a.kind < b.kind;
}
static void flush() {
  std::stable_sort(accesses.begin(), accesses.end(), before);
  for (size_t i = 0, j; i < accesses.size(); i = j) {
    for (j = i + 1; j < accesses.size() && !before(accesses[i], accesses[j]); ++j) {}
    group(&accesses[i], accesses.data() + j);
  }
  accesses.clear();
}

static void touch(uint64_t address, int bytes, int kind, uint64_t place) {
  if (!tracing) return;
  const bool store = kind & STORE;
  if (on_device(address)) {
    (store ? traffic.stored : traffic.loaded) += bytes;
    ++(store ? traffic.stores : traffic.loads);
    if (bytes == 16) (store ? traffic.wide_stored : traffic.wide_loaded) += bytes;
    if (kind & ASYNC) traffic.async_loaded += bytes;
    for (int b = 0; b < bytes; ++b) {
      Page& page = pages[(address + b) / 4096];
      (store ? page.stored : page.loaded).set((address + b) % 4096);
    }
  } else {
    bool shared = false;
    for (const auto& s : shared_arrays) shared |= address - uint64_t(s.first) < s.second;
    if (!shared) return;
    (store ? traffic.shared_stored : traffic.shared_loaded) += bytes;
    if (in_call) {
      for (int b = 0; b < bytes; b += 2) call_reads.push_back(address + b);
      return;
    }
    kind |= SHARED;
  }
  const int t = card_now.thread;
  Turn& turn = turns[place << 13 | uint64_t(kind & 3) << 11 | t];
  if (turn.epoch != epochs[t]) turn = {epochs[t], 0};
  accesses.push_back({place, epochs[t], turn.turn++, uint16_t(t), uint8_t(kind & 3), uint8_t(bytes), address});
  if (accesses.size() > 1 << 22) flush();
}
static void touch_range(uint64_t address, size_t bytes, int kind, uint64_t place) {
  for (size_t b = 0; b < bytes;) {  // as the card would: in the largest pieces that are aligned
    int piece = 16;
    while (piece > 1 && ((address + b) % piece || b + piece > bytes)) piece /= 2;
    touch(address + b, piece, kind, place + b);
    b += piece;
  }
}

// One instruction of a whole warp, such as ldmatrix: what it reads of shared memory, 128 bytes at a time.
static void begin_call() { in_call = tracing; }
static void end_call() {
  in_call = false;
  if (call_reads.empty()) return;
  ++traffic.shared_requests;
  for (size_t i = 0; i < call_reads.size(); i += 64) {
    std::vector<uint64_t> words;
    for (size_t k = i; k < i + 64 && k < call_reads.size(); ++k) words.push_back(call_reads[k] / 4);
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    int banks[32] = {};
    for (uint64_t w : words) ++banks[w % 32];
    traffic.shared_cycles += *std::max_element(banks, banks + 32);
    ++traffic.shared_least;
  }
  call_reads.clear();
}

static void begin_block() {
  std::memset(epochs, 0, sizeof epochs);
  turns.clear();
}
}  // namespace trace

extern "C" {
// From now on, launches are traced: `ranges` holds first and one past the last byte of every array.
void card_trace(const uint64_t* ranges, int count) {
  traffic = {};
  trace::ranges = ranges;
  trace::range_count = count;
  trace::last_range = 0;
  trace::pages.clear();
  trace::accesses.clear();
  trace::call_reads.clear();
  trace::in_call = false;
  tracing = true;
}
void card_traced(card_traffic* out) {
  trace::flush();
  for (const auto& p : trace::pages) {
    traffic.distinct_loaded += p.second.loaded.count();
    traffic.distinct_stored += p.second.stored.count();
  }
  tracing = false;
  *out = traffic;
}

#define CARD_PLACE_OF_CALL uint64_t(__builtin_return_address(0))
#define CARD_TOUCH(n)                                                                                             \
  void __tsan_read##n(void* p) { trace::touch(uint64_t(p), n, trace::LOAD, CARD_PLACE_OF_CALL); }                 \
  void __tsan_write##n(void* p) { trace::touch(uint64_t(p), n, trace::STORE, CARD_PLACE_OF_CALL); }
#define CARD_TOUCH_UNALIGNED(n)                                                                                   \
  void __tsan_unaligned_read##n(void* p) { trace::touch_range(uint64_t(p), n, trace::LOAD, CARD_PLACE_OF_CALL); } \
  void __tsan_unaligned_write##n(void* p) { trace::touch_range(uint64_t(p), n, trace::STORE, CARD_PLACE_OF_CALL); }
CARD_TOUCH(1) CARD_TOUCH(2) CARD_TOUCH(4) CARD_TOUCH(8) CARD_TOUCH(16)
CARD_TOUCH_UNALIGNED(2) CARD_TOUCH_UNALIGNED(4) CARD_TOUCH_UNALIGNED(8) CARD_TOUCH_UNALIGNED(16)
void __tsan_read_range(void* p, size_t n) { trace::touch_range(uint64_t(p), n, trace::LOAD, CARD_PLACE_OF_CALL); }
void __tsan_write_range(void* p, size_t n) { trace::touch_range(uint64_t(p), n, trace::STORE, CARD_PLACE_OF_CALL); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
unsigned char __tsan_atomic8_load(const volatile unsigned char* p, int) { return *p; }
}
