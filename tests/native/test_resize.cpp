// Bilinear resizing: numbers that `slipway_runtime.resize` gives.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "resize.hpp"

namespace slipway {
namespace {

cv::Mat small_plane() { return (cv::Mat_<float>(2, 3) << 0, 1, 2, 10, 11, 12); }

std::vector<float> values_of(const cv::Mat& plane) {
  std::vector<float> values;
  for (int y = 0; y < plane.rows; ++y)
    values.insert(values.end(), plane.ptr<float>(y), plane.ptr<float>(y) + plane.cols);
  return values;
}

std::vector<float> resized(cv::Size size, bool align_corners) {
  const std::array<PlaneResize, 1> steps{PlaneResize({3, 2}, size, align_corners)};
  return values_of(resized_rows(small_plane(), steps, 0, size.height));
}

TEST(Resize, MixesNeighbours) {
  EXPECT_EQ(resized({5, 3}, false), (std::vector{0.F, 0.40000004F, 1.F, 1.6000001F, 2.F, 5.F, 5.3999996F, 6.F,
                                                 6.6000004F, 7.F, 10.F, 10.4F, 11.F, 11.6F, 12.F}));
  EXPECT_EQ(resized({5, 3}, true),
            (std::vector{0.F, 0.5F, 1.F, 1.5F, 2.F, 5.F, 5.5F, 6.F, 6.5F, 7.F, 10.F, 10.5F, 11.F, 11.5F, 12.F}));
}

TEST(Resize, TheSameSizeIsTheSamePlane) { EXPECT_EQ(resized({3, 2}, false), values_of(small_plane())); }

TEST(Resize, PositionsAreRoundedOnce) {
  const auto taps = Taps::between(128, 1920, false);
  EXPECT_EQ(taps.lower[961], 63);
  EXPECT_EQ(taps.upper[961], 64);
  EXPECT_EQ(taps.weight[961], 0x1.33338p-1F);
  // A control: with the product rounded too, the weight is another.
  volatile float product = 128.F / 1920.F * 961.5F;
  EXPECT_EQ(product - 0.5F - 63.F, 0x1.33340p-1F);
}

TEST(Resize, SomeRowsAreThoseOfTheWhole) {
  const std::vector<PlaneResize> steps{{{3, 2}, {8, 7}, false}, {{6, 5}, {4, 9}, true}};
  const cv::Mat whole = resized_rows(small_plane(), steps, 0, 9);
  for (int start = 0; start < 9; ++start)
    for (int stop = start + 1; stop <= 9; ++stop)
      EXPECT_EQ(values_of(resized_rows(small_plane(), steps, start, stop)), values_of(whole.rowRange(start, stop)));
}

TEST(Resize, OnePositionHasNoNeighbour) {
  const auto taps = Taps::between(1, 3, true);
  EXPECT_EQ(taps.upper, (std::vector{0, 0, 0}));
  EXPECT_EQ(Taps::between(5, 1, true).lower, std::vector{0});
}

}  // namespace
}  // namespace slipway
