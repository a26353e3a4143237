#include "timing.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "error.hpp"
#include "json_value.hpp"

namespace slipway {
namespace {

struct Turns {
  std::vector<double> samples_ns;
  double wall_ns = 0;
};

// Time calls in turn until `least_ns` and `least_calls` are both reached, or `most_calls`.
Turns time_turns(const std::vector<std::function<void()>>& calls, const Clock& clock, double least_ns,
                 std::size_t least_calls, std::size_t most_calls) {
  Turns turns;
  const auto first = clock();
  auto end = first;
  while (turns.samples_ns.size() < most_calls &&
         (static_cast<double>(end - first) < least_ns || turns.samples_ns.size() < least_calls)) {
    for (const auto& call : calls) {
      const auto start = clock();
      call();
      end = clock();
      turns.samples_ns.push_back(static_cast<double>(end - start));
    }
  }
  turns.wall_ns = static_cast<double>(end - first);
  return turns;
}

// Whether the last few medians agree.
bool settled(const std::vector<double>& medians, const TimerSettings& settings) {
  if (medians.size() < settings.settled_windows) return false;
  const auto [least, most] =
      std::minmax_element(medians.end() - static_cast<std::ptrdiff_t>(settings.settled_windows), medians.end());
  return *most <= *least * (1 + settings.tolerance);
}

}  // namespace

std::int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

TimerSettings parse_timer(const std::string& text) {
  try {
    const auto raw = nlohmann::json::parse(text);
    const Value value(raw, "");
    value.expect_fields({"seconds", "min_calls", "max_calls", "window_ms", "window_calls", "settled_windows",
                         "tolerance", "max_windows"});
    const auto count = [&](const char* key) { return static_cast<std::size_t>(value[key].integer(1)); };
    return {value["seconds"].number(),   count("min_calls"),    count("max_calls"),
            value["window_ms"].number(), count("window_calls"), count("settled_windows"),
            value["tolerance"].number(), count("max_windows")};
  } catch (const nlohmann::json::exception&) {
    throw UsageError("--timer: not valid JSON");
  } catch (const std::invalid_argument& error) {
    throw UsageError(std::string("--timer: ") + error.what());
  }
}

Timing measure(const std::vector<std::function<void()>>& calls, const TimerSettings& settings, const Clock& clock) {
  Timing timing;
  while (!settled(timing.warmup_us, settings)) {
    if (timing.warmup_us.size() >= settings.max_windows) {
      timing.invalid = "warm-up did not settle in " + std::to_string(settings.max_windows) +
                       " windows; with the machine quiet, measure again";
      break;
    }
    const auto window = time_turns(calls, clock, settings.window_ms * 1e6, settings.window_calls, settings.max_calls);
    timing.warmup_us.push_back(quantile(window.samples_ns, 0.5) / 1e3);
  }
  const auto turns = time_turns(calls, clock, settings.seconds * 1e9, settings.min_calls, settings.max_calls);
  for (const auto sample : turns.samples_ns) timing.samples_us.push_back(sample / 1e3);
  timing.wall_s = turns.wall_ns / 1e9;
  return timing;
}

double quantile(std::vector<double> samples, double share) {
  std::sort(samples.begin(), samples.end());
  const double at = share * static_cast<double>(samples.size() - 1);
  const auto lower = static_cast<std::size_t>(at);
  const auto upper = std::min(lower + 1, samples.size() - 1);
  return samples[lower] + (at - std::floor(at)) * (samples[upper] - samples[lower]);
}

}  // namespace slipway
