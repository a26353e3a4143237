// Masks whose pixels can be counted by hand; `slipway_runtime.masks` gives the same.
#include "masks.hpp"

#include <gtest/gtest.h>

#include <opencv2/core.hpp>
#include <vector>

namespace slipway {
namespace {

const cv::Size kImage(10, 8);
const std::vector<float> kOnes(4, 1.F);

Mask over_box(Box box, double threshold) {
  return BoxMasks({{kOnes.data()}, {2, 2}, nullptr}, {box}, kImage, threshold).at(0);
}

Mask over_image(const std::vector<float>& logits, double threshold) {
  Prepared prepared;
  prepared.size = {20, 16};
  prepared.original = prepared.content = kImage;
  prepared.scale_x = prepared.scale_y = 2;
  return ImageMasks({{logits.data()}, {5, 4}, nullptr}, prepared, threshold).at(0);
}

cv::Mat whole(const Mask& mask) {
  cv::Mat pixels = cv::Mat::zeros(mask.image, CV_8UC1);
  if (!mask.part.empty()) mask.part.copyTo(pixels(mask.extent));
  return pixels;
}

TEST(BoxMasks, FillTheBox) {
  cv::Mat expected = cv::Mat::zeros(kImage, CV_8UC1);
  expected(cv::Rect(2, 2, 4, 4)) = 1;
  EXPECT_EQ(cv::countNonZero(whole(over_box({2, 2, 6, 6}, 0.5)) != expected), 0);
}

TEST(BoxMasks, BlendWithTheZerosAround) {
  // A corner's centre is a quarter of a cell outside along both axes: 0.75² = 0.5625.
  EXPECT_EQ(cv::countNonZero(over_box({2, 2, 6, 6}, 0.5625).part), 16);
  EXPECT_EQ(cv::countNonZero(over_box({2, 2, 6, 6}, 0.57).part), 12);
}

TEST(BoxMasks, AreCutAtTheImage) {
  EXPECT_EQ(cv::countNonZero(over_box({-2, -2, 2, 2}, 0.5).part), 4);
  EXPECT_EQ(cv::countNonZero(over_box({-1e30F, -1e30F, 1e30F, 1e30F}, 0.5).part), 80);
  for (const Box outside : {Box{12, 2, 16, 6}, Box{2, -6, 6, -2}, Box{1e30F, 2, 2e30F, 6}})
    EXPECT_EQ(run_lengths(over_box(outside, 0.5)), std::vector<int>{80});
}

TEST(ImageMasks, HoldWhatIsAboveTheThreshold) {
  EXPECT_EQ(run_lengths(over_image(std::vector<float>(20, 1e-6F), 0.5)), (std::vector<int>{0, 80}));
  EXPECT_EQ(run_lengths(over_image(std::vector<float>(20, 0.F), 0.5)), std::vector<int>{80});
  // The sigmoid of 2 is 0.8808.
  EXPECT_EQ(cv::countNonZero(over_image(std::vector<float>(20, 2.F), 0.88).part), 80);
  EXPECT_EQ(cv::countNonZero(over_image(std::vector<float>(20, 2.F), 0.881).part), 0);
}

TEST(ImageMasks, AreResizedBetweenTheirCells) {
  std::vector<float> logits(20, -1.F);
  for (std::size_t cell = 0; cell < logits.size(); cell += 5) logits[cell] = logits[cell + 1] = 1;
  // From one column of cells to the next the logits change their sign in the middle, 4 pixels from the left.
  EXPECT_EQ(run_lengths(over_image(logits, 0.5)), (std::vector<int>{0, 32, 48}));
}

TEST(RunLengths, GoDownTheColumns) {
  const cv::Mat part = (cv::Mat_<std::uint8_t>(2, 2) << 1, 0, 1, 1);
  EXPECT_EQ(run_lengths({{4, 3}, {1, 1, 2, 2}, part}), (std::vector<int>{4, 2, 2, 1, 3}));
  EXPECT_EQ(run_lengths({{4, 3}, {2, 1, 2, 2}, part}), (std::vector<int>{7, 2, 2, 1}));
  EXPECT_EQ(run_lengths({{2, 2}, {0, 0, 2, 2}, part}), (std::vector<int>{0, 2, 1, 1}));
  EXPECT_EQ(run_lengths({{4, 3}, {}, {}}), std::vector<int>{12});
}

}  // namespace
}  // namespace slipway
