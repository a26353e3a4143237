// The timer: warm up until the duration has settled, then time every single call, as `benchmarks/timing.py` does.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

// How long to measure, and when a duration counts as settled; the fields of the harness's `TimerSettings`.
struct TimerSettings {
  double seconds = 2;
  std::size_t min_calls = 10, max_calls = 5000;
  double window_ms = 100;
  std::size_t window_calls = 5, settled_windows = 3;
  double tolerance = 0.1;
  std::size_t max_windows = 20;
};

// From the harness's JSON. Throws UsageError for an unknown or missing field.
TimerSettings parse_timer(const std::string& json);

struct Timing {
  std::vector<double> samples_us;      // the latency of each timed call, in order
  double wall_s = 0;                   // from the start of the first timed call to the end of the last
  std::vector<double> warmup_us;       // the median of each warm-up window, in order
  std::optional<std::string> invalid;  // why the numbers must not be trusted
};

// Nanoseconds of a clock that never goes back.
using Clock = std::function<std::int64_t()>;
std::int64_t steady_ns();

// Time calls that do the same work on different inputs and take turns; every window and the timing end with a whole
// turn.
Timing measure(const std::vector<std::function<void()>>& calls, const TimerSettings& settings,
               const Clock& clock = steady_ns);

// The value below which `share` of the samples lie; the mean of the two in the middle for a median of an even number.
double quantile(std::vector<double> samples, double share);

}  // namespace slipway
