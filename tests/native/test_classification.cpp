// Classification: scores → the best classes.
#include <gtest/gtest.h>

#include <vector>

#include "task.hpp"

namespace slipway {
namespace {

Manifest manifest_of(std::int64_t topk) {
  Manifest manifest;
  manifest.classes = {"cat", "dog", "cow"};
  manifest.outputs = {{"scores", DType::kFloat32, {}}};
  manifest.postprocess = ClassificationOutput{topk};
  return manifest;
}

std::unique_ptr<Result> result_of(const Manifest& manifest, const std::vector<float>& scores, std::size_t index) {
  const auto classes = static_cast<std::int64_t>(scores.size()) / 2;
  return make_task(manifest)->finish({{"scores", DType::kFloat32, {2, classes}, scores.data(), nullptr}}, index, {});
}

TEST(Classification, TheBestComeFirstAndOfEqualOnesTheLowerLabel) {
  const auto manifest = manifest_of(2);
  const std::vector<float> scores{0.25F, 0.25F, 0.5F, 0.75F, 0.125F, 0.125F};
  EXPECT_EQ(result_of(manifest, scores, 0)->line(), "cow (0.500)  cat (0.250)");
  EXPECT_EQ(result_of(manifest, scores, 1)->to_json().dump(),
            R"({"task":"classification","top":[{"label":0,"name":"cat","score":0.75},)"
            R"({"label":1,"name":"dog","score":0.125}]})");
}

TEST(Classification, NoMoreThanThereAre) {
  const auto manifest = manifest_of(7);
  EXPECT_EQ(result_of(manifest, {0, 0, 1, 0, 0, 1}, 0)->to_json()["top"].size(), 3U);
}

TEST(Classification, ScoresOfOtherClassesAreRefused) {
  const auto manifest = manifest_of(1);
  EXPECT_THROW(result_of(manifest, {0, 0, 0, 1, 0, 0, 0, 1}, 0), VerificationError);
}

}  // namespace
}  // namespace slipway
