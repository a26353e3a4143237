#include "task.hpp"

#include <variant>

namespace slipway {

Outputs Task::run(std::span<const Prepared* const> batch, const Run& run) const {
  return run(Task::first_input(batch));
}

Batch Task::first_input(std::span<const Prepared* const> batch) const {
  const auto& first = *batch.front();
  Batch whole{{},
              first.channels,
              first.size,
              static_cast<std::size_t>(first.size.width),
              static_cast<std::size_t>(first.size.area())};
  for (const auto* prepared : batch) whole.arrays.push_back(prepared->array.data());
  return whole;
}

namespace {

struct Maker {
  const Manifest& manifest;

  auto operator()(const ClassificationOutput& output) const { return make_classification(manifest, output); }
  auto operator()(const SegmentationOutput& output) const { return make_segmentation(manifest, output); }
  auto operator()(const DetectionOutput& output) const { return make_detection(manifest, output); }
};

}  // namespace

std::unique_ptr<Task> make_task(const Manifest& manifest) { return std::visit(Maker{manifest}, manifest.postprocess); }

}  // namespace slipway
