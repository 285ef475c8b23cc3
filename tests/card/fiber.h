// A fiber's switch of stacks, for x86-64 and 64-bit ARM, and by ucontext for the rest.
#pragma once
// card_switch(&mine, other): leave my stack pointer in 'mine', go on where 'other' was left. The processor predicts a
// ret by counting calls; so the x86 one is neither called nor returned from, and saves only what the compiler holds.
#if defined(__x86_64__) && !defined(CARD_PORTABLE)
static inline __attribute__((always_inline)) void card_switch(void** save, void* load) {
  asm volatile(
      "pushq %%rbp\nleaq 1f(%%rip),%%rax\npushq %%rax\nmovq %%rsp,(%0)\nmovq %1,%%rsp\npopq %%rax\njmpq *%%rax\n"
      "1:\npopq %%rbp\n"
      : "+D"(save), "+S"(load)
      :
      : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc", "xmm0",
        "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",
        "xmm14", "xmm15");
}
static void* prepare(char* top, void (*entry)()) {
  void** sp = (void**)((uintptr_t)top & ~uintptr_t(15));
  *--sp = nullptr;  // the entry starts as if called: 8 below a multiple of 16
  *--sp = (void*)entry;
  return sp;
}
#elif defined(__aarch64__) && !defined(CARD_PORTABLE)
extern "C" void card_switch(void** save, void* load);
asm(".text\n.globl card_switch\n.type card_switch,%function\ncard_switch:\n"
    "sub sp,sp,#160\nstp x19,x20,[sp]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\nstp x25,x26,[sp,#48]\n"
    "stp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\nstp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\n"
    "stp d12,d13,[sp,#128]\nstp d14,d15,[sp,#144]\nmov x9,sp\nstr x9,[x0]\nmov sp,x1\n"
    "ldp x19,x20,[sp]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\n"
    "ldp x27,x28,[sp,#64]\nldp x29,x30,[sp,#80]\nldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\n"
    "ldp d12,d13,[sp,#128]\nldp d14,d15,[sp,#144]\nadd sp,sp,#160\nret\n");
static void* prepare(char* top, void (*entry)()) {
  void** sp = (void**)((uintptr_t)top & ~uintptr_t(15)) - 20;
  std::memset(sp, 0, 160);
  sp[11] = (void*)entry;  // x30, the return address
  return sp;
}
#else
struct Context { ucontext_t c; };
extern "C" void card_switch(void** save, void* load) {
  Context here;
  *save = &here;
  swapcontext(&here.c, &((Context*)load)->c);
}
static void* prepare(char* top, void (*entry)()) {
  static std::vector<Context*> all;
  Context* c = new Context;
  getcontext(&c->c);
  c->c.uc_stack.ss_sp = top - 60000;
  c->c.uc_stack.ss_size = 60000;
  makecontext(&c->c, entry, 0);
  return c;
}
#endif
