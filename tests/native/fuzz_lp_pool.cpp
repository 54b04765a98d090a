// Fuzzes the kernels of Lp pooling as fuzz_max_pool.cpp does those of max pooling: powers, roots, shares and slopes of
// any numbers and any p, against the C library's pow in double. They go from number to number, so that the windows are
// no matter of theirs.
#include "cpu/isa.h"
#include "fuzz/memory.h"
#include "fuzz/run.h"
#include "lp_pool/job.h"

namespace switchgrad {
SWITCHGRAD_TABLE(LpPoolTable, lp_pool_table)
}

namespace fuzz {
namespace {

using switchgrad::Dtype;
using switchgrad::Exponent;
using switchgrad::LpPoolTable;

#define SWITCHGRAD_SERVER(isa) {#isa, &switchgrad::isa::lp_pool_table},
constexpr Server<LpPoolTable> servers[] = {SWITCHGRAD_SERVERS};

struct {
  Dtype dtype;
  int64_t count;
  double p;
} current;

void show() {
  std::printf("dtype %d, %d numbers, p %.17g\n", static_cast<int>(current.dtype), static_cast<int>(current.count),
              current.p);
}

double any_power() {
  switch (between(0, 3)) {
    case 0: return static_cast<double>(between(1, 4));
    case 1: return static_cast<double>(between(1, 20)) / 2;
    default: return std::exp(static_cast<double>(between(-200, 250)) / 100);
  }
}

template <class T>
double real(T x) {
  return static_cast<double>(order(x));
}

template <class T>
class Fuzz {
  using Sum = SumOf<T>;

 public:
  Fuzz(const LpPoolTable& table, Dtype dtype) : table_(table), dtype_(dtype) {
    current = {dtype, between(0, chance(90) ? 70 : 2000), any_power()};
  }

  void run() {
    kind_ = static_cast<int>(between(0, 3));
    powers();
    roots();
    shares();
    slopes();
  }

 private:
  static double power(double x, double e) { return x == 0 ? 0 : std::pow(x, e); }

  static constexpr double largest = std::is_same_v<Sum, double> ? 1e300 : 3e38;
  static constexpr double smallest = std::is_same_v<Sum, double> ? 1e-290 : 1e-36;
  static constexpr double unknown = -12345.678;  // what is wanted of factors beyond the type's numbers

  static double product(double by, double x, double e) {
    if (x == 0) return 0;
    const double factor = e == 0 ? 1 : std::pow(x, e);  // of a signalling NaN too
    const bool is_number = (factor < largest && factor > smallest) || !std::isfinite(x);
    return is_number ? by * factor : unknown;
  }

  template <class E>
  static Buffer<E> drawn(int region, int kind) {
    Buffer<E> numbers(region, current.count);
    for (int64_t i = 0; i < current.count; ++i) numbers[i] = any_number<E>(kind);
    return numbers;
  }
  // Sums of powers and norms are 0 or above.
  template <class E>
  static Buffer<E> drawn_sizes(int region, int kind) {
    Buffer<E> numbers = drawn<E>(region, kind);
    for (int64_t i = 0; i < current.count; ++i)
      if (order(numbers[i]) < 0) numbers[i] = written<E>(static_cast<SumOf<E>>(-order(numbers[i])));
    return numbers;
  }

  template <class E, class Meaning>
  static void compare_all(const Buffer<E>& got, const char* what, const Meaning& meaning) {
    if (!got.intact()) complain("memory beside the numbers");
    for (int64_t i = 0; i < current.count; ++i) compare(got[i], meaning(i), what);
  }

  void powers() {
    const auto x = drawn<T>(0, kind_);
    Buffer<Sum> got(1, current.count);
    table_.powers[dtype_](&x[0], got.get(), current.count, Exponent(current.p));
    compare_all(got, "powers", [&](int64_t i) { return power(std::abs(real(x[i])), current.p); });
  }

  void roots() {
    const auto sums = drawn_sizes<Sum>(0, kind_);
    Buffer<T> got(1, current.count);
    table_.roots[dtype_](&sums[0], got.get(), current.count, Exponent(1 / current.p));
    compare_all(got, "roots", [&](int64_t i) { return power(real(sums[i]), 1 / current.p); });
  }

  void shares() {
    const auto g = drawn<T>(0, 3), y = drawn_sizes<T>(1, kind_);
    Buffer<Sum> got(2, current.count);
    table_.shares[dtype_](&g[0], &y[0], got.get(), current.count, Exponent(1 - current.p));
    compare_all(got, "shares", [&](int64_t i) { return product(real(g[i]), real(y[i]), 1 - current.p); });
  }

  void slopes() {
    const auto sums = drawn<Sum>(0, 3);
    const auto x = drawn<T>(1, kind_);
    Buffer<T> got(2, current.count);
    table_.slopes[dtype_](&sums[0], &x[0], got.get(), current.count, Exponent(current.p - 1));
    compare_all(got, "slopes", [&](int64_t i) {
      if (std::isnan(real(x[i]))) return real(x[i]);
      return std::copysign(1, real(x[i])) * product(real(sums[i]), std::abs(real(x[i])), current.p - 1);
    });
  }

  // Equal up to rounding, where the result is a number of the type.
  template <class E>
  static void compare(E got, double wanted, const char* what) {
    const double found = real(got), size = std::abs(wanted);
    const double most = std::is_same_v<E, Half> ? 65000 : largest, least = std::is_same_v<E, Half> ? 1e-4 : smallest;
    const double loose = std::is_same_v<E, Half>    ? 1e-3
                         : std::is_same_v<E, Brain> ? 8e-3
                         : sizeof(Sum) == 8         ? 4e-15
                                                    : 3e-6;
    if (size == -unknown) return;
    const bool right = std::isnan(wanted)         ? std::isnan(found)
                       : size > most              ? std::abs(found) > most / 2
                       : size > 0 && size < least ? std::abs(found) < 2 * least
                                                  : std::abs(found - wanted) <= loose * size;
    if (!right) complain(what);
  }

  const LpPoolTable& table_;
  Dtype dtype_;
  int kind_ = 0;
};

void fuzz_once(const LpPoolTable& table) {
  switch (between(0, 3)) {
    case 0: return Fuzz<double>(table, switchgrad::F64).run();
    case 1: return Fuzz<float>(table, switchgrad::F32).run();
    case 2: return Fuzz<Half>(table, switchgrad::F16).run();
    default: return Fuzz<Brain>(table, switchgrad::BF16).run();
  }
}

}  // namespace
}  // namespace fuzz

int main(int count, char** words) { return fuzz::run(count, words, fuzz::servers, fuzz::show, fuzz::fuzz_once); }
