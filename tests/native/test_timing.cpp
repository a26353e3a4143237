// The timer before a clock that only the timed calls move; the numbers are those of benchmarks/timing.py.
#include "timing.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "error.hpp"

namespace slipway {
namespace {

using Calls = std::vector<std::function<void()>>;

const TimerSettings kSettings{0.1, 10, 50, 10, 2, 3, 0.1, 6};

// A clock, and calls that move it: these durations one after the other, then the last for ever.
struct Simulated {
  std::vector<double> durations_us;
  std::int64_t now = 0;
  std::size_t calls = 0;

  void call() {
    now += std::llround(1e3 * durations_us[std::min(calls, durations_us.size() - 1)]);
    ++calls;
  }
  Timing measured(std::size_t inputs = 1, const TimerSettings& settings = kSettings) {
    return measure(Calls(inputs, [this] { call(); }), settings, [this] { return now; });
  }
};

std::set<double> distinct(const std::vector<double>& values) { return {values.begin(), values.end()}; }

TEST(Measure, WarmsUpUntilThreeWindowsAgree) {
  // Windows of 10 calls of 1 ms. The first is slow, the second is 12 % off the next ones.
  std::vector<double> durations{5000, 5000};
  durations.insert(durations.end(), 9, 1120);
  durations.push_back(1000);
  const auto timing = Simulated{durations}.measured();
  EXPECT_EQ(timing.invalid, std::nullopt);
  EXPECT_EQ(timing.warmup_us, (std::vector<double>{5000, 1120, 1000, 1000, 1000}));
  EXPECT_EQ(distinct(timing.samples_us), std::set<double>{1000});
  EXPECT_EQ(timing.samples_us.size(), 50U);
}

TEST(Measure, SaysThatItNeverSettledAndMeasuresAllTheSame) {
  std::vector<double> durations;
  for (int i = 0; i < 1000; ++i) durations.push_back(1000 * std::pow(1.2, i / 2));
  const auto timing = Simulated{durations}.measured();
  ASSERT_TRUE(timing.invalid);
  EXPECT_NE(timing.invalid->find("did not settle in 6 windows"), std::string::npos);
  EXPECT_EQ(timing.warmup_us.size(), kSettings.max_windows);
  EXPECT_EQ(timing.samples_us.size(), kSettings.min_calls);
}

TEST(Measure, SettlesInTheLastWindowOfAll) {
  // Two calls a window: three that differ, three that agree.
  const auto timing = Simulated{{90000, 90000, 50000, 50000, 30000, 30000, 10000}}.measured();
  EXPECT_EQ(timing.invalid, std::nullopt);
  EXPECT_EQ(timing.warmup_us, (std::vector<double>{90000, 50000, 30000, 10000, 10000, 10000}));
  EXPECT_TRUE((Simulated{{90000, 90000, 50000, 50000, 30000, 30000, 20000, 20000, 10000}}.measured().invalid));
}

TEST(Measure, TakesATenthForSettledAndNoMore) {
  EXPECT_EQ((Simulated{{10000, 10000, 11000, 11000, 10000}}.measured().warmup_us.size()), 3U);
  EXPECT_EQ((Simulated{{10000, 10000, 11001, 11001, 10000}}.measured().warmup_us.size()), 5U);
}

struct Amount {
  double call_us;
  std::size_t count;
};

class HowManyCalls : public testing::TestWithParam<Amount> {};

TEST_P(HowManyCalls, AreTimed) {
  const auto [call_us, count] = GetParam();
  const auto timing = Simulated{{call_us}}.measured();
  EXPECT_EQ(timing.samples_us.size(), count);
  EXPECT_DOUBLE_EQ(timing.wall_s, static_cast<double>(count) * call_us / 1e6);
}

INSTANTIATE_TEST_SUITE_P(SecondsLeastMost, HowManyCalls,
                         testing::Values(Amount{4000, 25}, Amount{50000, 10}, Amount{10, 50}));

TEST(Measure, EndsWindowsAndTimingWithAWholeTurn) {
  std::int64_t now = 0;
  std::vector<std::int64_t> seen;
  Calls calls;
  for (const std::int64_t milliseconds : {1, 9, 2, 8, 3})
    calls.push_back([&now, &seen, milliseconds] {
      now += milliseconds * 1000000;
      seen.push_back(milliseconds);
    });
  const auto timing = measure(calls, kSettings, [&now] { return now; });
  EXPECT_EQ(timing.invalid, std::nullopt);
  EXPECT_EQ(timing.warmup_us, (std::vector<double>{3000, 3000, 3000}));
  EXPECT_EQ(timing.samples_us.size() % 5, 0U);
  const std::vector<std::int64_t> turn{1, 9, 2, 8, 3};
  for (std::size_t i = 0; i < seen.size(); ++i) ASSERT_EQ(seen[i], turn[i % 5]);
}

TEST(Measure, MayGoBeyondTheMostCallsToEndATurn) { EXPECT_EQ(Simulated{{10}}.measured(3).samples_us.size(), 51U); }

TEST(Measure, CountsTheTimeBetweenCallsAsWallTimeOnly) {
  std::int64_t now = 0;
  const auto clock = [&now] { return now += 500; };  // reading it takes half a microsecond
  const auto timing = measure({[&now] { now += 1000000; }}, kSettings, clock);
  EXPECT_EQ(distinct(timing.samples_us), std::set<double>{1000.5});
  EXPECT_NEAR(timing.wall_s, static_cast<double>(timing.samples_us.size()) * 1001e-6, 1e-9);
}

TEST(Quantile, LiesBetweenSamples) {
  EXPECT_DOUBLE_EQ(quantile({7}, 0.5), 7);
  EXPECT_DOUBLE_EQ(quantile({7}, 0), 7);
  EXPECT_DOUBLE_EQ(quantile({7}, 1), 7);
  EXPECT_DOUBLE_EQ(quantile({4, 1, 3, 2}, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(quantile({5, 1, 3}, 0.5), 3);
  EXPECT_DOUBLE_EQ(quantile({4, 1, 3, 2}, 0), 1);
  EXPECT_DOUBLE_EQ(quantile({4, 1, 3, 2}, 1), 4);
  EXPECT_DOUBLE_EQ(quantile({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 0.9), 9.1);
}

const std::string kJson =
    R"({"seconds": 0.5, "min_calls": 3, "max_calls": 7, "window_ms": 20, "window_calls": 2,
                              "settled_windows": 4, "tolerance": 0.25, "max_windows": 9})";

TEST(ParseTimer, ReadsTheHarnesssSettings) {
  const auto settings = parse_timer(kJson);
  EXPECT_EQ(settings.seconds, 0.5);
  EXPECT_EQ(settings.min_calls, 3U);
  EXPECT_EQ(settings.max_calls, 7U);
  EXPECT_EQ(settings.window_ms, 20);
  EXPECT_EQ(settings.window_calls, 2U);
  EXPECT_EQ(settings.settled_windows, 4U);
  EXPECT_EQ(settings.tolerance, 0.25);
  EXPECT_EQ(settings.max_windows, 9U);
}

TEST(ParseTimer, RefusesAllElse) {
  const auto with = [](const std::string& from, const std::string& to) {
    auto text = kJson;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  const std::vector<std::string> wrong{"",
                                       "{}",
                                       "[]",
                                       "{",
                                       with("\"seconds\": 0.5, ", ""),
                                       with("0.5", "\"0.5\""),
                                       with("0.5", "1e999"),
                                       with("0.5", "null"),
                                       with("3", "0"),
                                       with("3", "-3"),
                                       with("3", "3.0"),
                                       with("seconds", "hours")};
  for (const auto& text : wrong) EXPECT_THROW(parse_timer(text), UsageError) << text;
}

}  // namespace
}  // namespace slipway
