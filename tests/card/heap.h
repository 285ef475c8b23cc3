// Device memory: [no access][red zone, data, at most 15 bytes of red zone][no access].
#pragma once
// The data ends where the no-access pages begin, so a read or a write past the end faults at once, even a far one.
static const size_t page = sysconf(_SC_PAGESIZE);
static const size_t guard = 4 << 20;  // addresses only: no memory stands behind them
static size_t whole(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }
static std::vector<std::pair<size_t, void*>> kept;  // freed blocks of few pages, for the next of the same size

static void* map(size_t bytes) {
  char* p = (char*)mmap(nullptr, bytes + 2 * guard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED || mprotect(p + guard, bytes, PROT_READ | PROT_WRITE)) return nullptr;
  return p + guard;
}

extern "C" void* card_alloc(size_t bytes, int fill, size_t align) {  // fill < 0: the caller writes everything
  const size_t room = whole(bytes, page), tail = whole(bytes, align);
  char* start = nullptr;
  for (size_t i = kept.size(); i-- > 0;)
    if (kept[i].first == room) {
      start = (char*)kept[i].second;
      kept.erase(kept.begin() + i);
      break;
    }
  if (!start) start = (char*)map(room);
  if (!start) return nullptr;
  char* data = start + room - tail;
  std::memset(start, 0xff, room - tail);
  std::memset(data + bytes, 0xff, tail - bytes);
  if (fill >= 0) std::memset(data, fill, bytes);
  return data;
}

static bool all_ff(const char* p, size_t n) {
  for (; n >= 8; p += 8, n -= 8) {
    uint64_t v;
    std::memcpy(&v, p, 8);
    if (~v) return false;
  }
  for (; n; ++p, --n) if (*p != char(0xff)) return false;
  return true;
}

// 0 when both red zones are whole, else 1 (before the data) or 2 (after it).
extern "C" int card_check(const void* p, size_t bytes, size_t align) {
  const char* data = (const char*)p;
  const size_t room = whole(bytes, page), tail = whole(bytes, align);
  if (!all_ff(data + tail - room, room - tail)) return 1;
  return all_ff(data + bytes, tail - bytes) ? 0 : 2;
}

extern "C" int card_free(void* p, size_t bytes, size_t align) {
  const int broken = card_check(p, bytes, align);
  const size_t room = whole(bytes, page);
  char* start = (char*)p + whole(bytes, align) - room;
  if (room <= 64 * page && kept.size() < 512) {
    std::memset(start, 0xff, room);  // whoever still reads it reads NaN
    kept.push_back({room, start});
  } else {
    munmap(start - guard, room + 2 * guard);
  }
  return broken;
}

extern "C" size_t card_kept() {
  size_t n = 0;
  for (auto& k : kept) n += k.first;
  return n;
}
extern "C" void card_trim() {
  for (auto& k : kept) munmap((char*)k.second - guard, k.first + 2 * guard);
  kept.clear();
}
