// Segmentation: logits → labels, and the windows that an image goes through the
// graph in.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "task.hpp"

namespace slipway {
namespace {

// A segmenter of three classes, of two with a threshold.
Manifest manifest_of(const SegmentationOutput& output) {
  Manifest manifest;
  manifest.classes = {"road", "sky", "tree"};
  if (output.threshold) manifest.classes.pop_back();
  manifest.palette.resize(manifest.classes.size());
  manifest.outputs = {{"logits", DType::kFloat32, {}}};
  manifest.postprocess = output;
  return manifest;
}

Prepared image_of(cv::Size size, std::vector<float> values = {}) {
  Prepared image;
  image.channels = 1;
  image.size = image.content = image.original = size;
  image.array = std::move(values);
  image.array.resize(static_cast<std::size_t>(size.area()));
  return image;
}

Tensor tensor_of(std::vector<float> values, std::vector<std::int64_t> shape) {
  auto owner = std::make_shared<std::vector<float>>(std::move(values));
  return {"logits", DType::kFloat32, std::move(shape), owner->data(), owner};
}

std::string line_of(const SegmentationOutput& output, const Tensor& logits, const Prepared& image) {
  const auto manifest = manifest_of(output);
  return make_task(manifest)->finish({logits}, 0, image)->line();
}

// The array of each image of a batch, copied: the logits of a graph that does
// nothing.
std::vector<float> copied(const Batch& batch) {
  std::vector<float> values;
  for (const auto* array : batch.arrays)
    for (int y = 0; y < batch.size.height; ++y) {
      const auto* row = array + static_cast<std::size_t>(y) * batch.row_stride;
      values.insert(values.end(), row, row + batch.size.width);
    }
  return values;
}

TEST(Segmentation, TheLargestLogitWinsAndOfEqualOnesTheFirst) {
  const auto logits = tensor_of({1, 0, 5, 2, /**/ 1, 3, 4, 2, /**/ 0, 3, 6, 1}, {1, 3, 2, 2});
  const auto manifest = manifest_of({});
  const auto result = make_task(manifest)->finish({logits}, 0, image_of({2, 2}));
  EXPECT_EQ(
      result->to_json().dump(),
      R"({"task":"segmentation","width":2,"height":2,"classes":[{"label":0,"name":"road","pixels":2,"share":0.5},)"
      R"({"label":1,"name":"sky","pixels":1,"share":0.25},{"label":2,"name":"tree","pixels":1,"share":0.25}]})");
  EXPECT_EQ(result->line(), "road 50.0 %  sky 25.0 %  tree 25.0 %");
}

TEST(Segmentation, LogitsAreResizedBeforeTheyAreCompared) {
  const auto logits = tensor_of({1, 0, /**/ 0, 3, /**/ -1, -1}, {1, 3, 1, 2});
  EXPECT_EQ(line_of({}, logits, image_of({8, 1})), "sky 62.5 %  road 37.5 %");
  EXPECT_EQ(line_of({true, {}, {}}, logits, image_of({8, 1})), "sky 75.0 %  road 25.0 %");
}

TEST(Segmentation, AThresholdTellsTwoClassesApart) {
  // In float32, 1 / (1 + e^-8.94e-8) is 0.5.
  const auto logits = tensor_of({-1, 8.94e-8F, 0.5F, 1}, {1, 1, 2, 2});
  EXPECT_EQ(line_of({false, 0.5, {}}, logits, image_of({2, 2})), "road 50.0 %  sky 50.0 %");
  EXPECT_EQ(line_of({false, 0.7, {}}, logits, image_of({2, 2})), "road 75.0 %  sky 25.0 %");
}

TEST(Segmentation, LogitsOfOtherChannelsAreRefused) {
  EXPECT_THROW(line_of({}, tensor_of({1, 2}, {1, 2, 1, 1}), image_of({1, 1})), VerificationError);
  EXPECT_THROW(line_of({}, tensor_of({}, {1, 3, 0, 1}), image_of({1, 1})), VerificationError);
}

TEST(Segmentation, WindowsEndAtTheEdgesAndAreAveraged) {
  const auto manifest = manifest_of({false, 0.5, Window{2, 3, 2, 2}});
  const auto task = make_task(manifest);
  const auto image = image_of({4, 3}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  const std::vector<const Prepared*> batch{&image};
  std::vector<std::vector<float>> windows;
  const auto outputs = task->run(batch, [&](const Batch& window) {
    windows.push_back(copied(window));
    // One more for each window, so that the average shows where they overlap.
    std::vector<float> logits(6, static_cast<float>(windows.size()));
    return Outputs{tensor_of(std::move(logits), {1, 1, 2, 3})};
  });
  const std::vector<std::vector<float>> wanted{
      {0, 1, 2, 4, 5, 6}, {1, 2, 3, 5, 6, 7}, {4, 5, 6, 8, 9, 10}, {5, 6, 7, 9, 10, 11}};
  EXPECT_EQ(windows, wanted);
  EXPECT_EQ(copied(task->first_input(batch)), wanted.front());
  const auto* logits = outputs.front().as<float>();
  EXPECT_EQ(std::vector<float>(logits, logits + 12),
            (std::vector<float>{1, 1.5, 1.5, 2, 2, 2.5, 2.5, 3, 3, 3.5, 3.5, 4}));
}

}  // namespace
}  // namespace slipway
