#include "stages.hpp"

#include <array>

#include "terminal.hpp"

namespace slipway {
namespace {

constexpr std::array<const char*, 4> kStages{"decode", "preprocess", "compute", "postprocess"};

// Microseconds of each stage of one image.
using Times = std::array<double, kStages.size()>;

Times time_image(const Model& model, const Rotation& rotation, std::size_t index, const Clock& clock) {
  const auto& name = rotation.name(index);
  const auto start = clock();
  const auto image = decode(rotation.encoded(index), name);
  const auto decoded = clock();
  const auto prepared = preprocess(image, model.manifest().preprocess, name);
  const auto ready = clock();
  const auto outputs = model.run(Group{&prepared});
  const auto computed = clock();
  model.task().finish(outputs, 0, prepared)->settle();
  const auto finished = clock();
  const auto us = [](std::int64_t from, std::int64_t to) { return static_cast<double>(to - from) / 1e3; };
  return {us(start, decoded), us(decoded, ready), us(ready, computed), us(computed, finished)};
}

}  // namespace

Json time_stages(const Model& model, const Rotation& rotation, std::size_t count, const TimerSettings& settings,
                 const Clock& clock) {
  std::vector<Times> times;
  std::vector<std::function<void()>> calls;
  for (std::size_t index = 0; index < count; ++index)
    calls.push_back([&, index] {
      stop_if_interrupted();
      times.push_back(time_image(model, rotation, index, clock));
    });
  const auto timing = measure(calls, settings, clock);
  Json stages;
  // The first ones are the warm-up's.
  for (std::size_t stage = 0; stage < kStages.size(); ++stage)
    for (auto row = times.size() - timing.samples_us.size(); row < times.size(); ++row)
      stages[kStages[stage]].push_back(times[row][stage]);
  return {{"stages_us", stages}, {"stages_invalid", timing.invalid ? Json(*timing.invalid) : Json()}};
}

}  // namespace slipway
