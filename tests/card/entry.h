// The door from Python into a kernel: the types of its parameters and the loop that runs the threads of one block.
#pragma once

struct card_parameter { int kind, bytes, to, to_bytes; };  // of a pointer also what it points to

template <class T> constexpr int card_kind() {
  if (std::is_same<T, bool>::value) return 'b';
  if (std::is_same<T, __half>::value) return 'h';
  if (std::is_same<T, __nv_bfloat16>::value) return 'B';
  if (std::is_floating_point<T>::value) return 'f';
  if (std::is_integral<T>::value) return std::is_signed<T>::value ? 'i' : 'u';
  if (std::is_pointer<T>::value) return 'p';
  if (std::is_void<T>::value) return 'v';
  return 'o';
}
template <class T> constexpr int card_size() {
  if constexpr (std::is_void<T>::value) return 0; else return sizeof(T);
}
template <class T> constexpr card_parameter card_describe() {
  typedef std::remove_cv_t<std::remove_reference_t<T>> V;
  typedef std::remove_cv_t<std::remove_pointer_t<V>> P;
  return {card_kind<V>(), int(sizeof(V)), std::is_pointer<V>::value ? card_kind<P>() : 0,
          std::is_pointer<V>::value ? card_size<P>() : 0};
}

template <auto kernel, class F> struct card_entry;
template <auto kernel, class... A> struct card_entry<kernel, void (*)(A...)> {
  template <size_t... I> static void threads(void** args, std::index_sequence<I...>) {
    while (card_next()) {
      kernel(*static_cast<std::remove_reference_t<A>*>(args[I])...);
      card_done();
    }
  }
  static void run(void** args) { threads(args, std::index_sequence_for<A...>()); }
  static constexpr card_parameter parameters[sizeof...(A) + 1] = {card_describe<A>()..., {0, 0, 0, 0}};
};
struct card_export { const char* name; void (*run)(void**); const card_parameter* parameters; int count; };
template <class... A> constexpr int card_arity(void (*)(A...)) { return sizeof...(A); }
#define CARD_EXPORT(name, ...)                                                              \
  {name, &card_entry<(__VA_ARGS__), decltype(+(__VA_ARGS__))>::run,                         \
   card_entry<(__VA_ARGS__), decltype(+(__VA_ARGS__))>::parameters, card_arity(__VA_ARGS__)}
