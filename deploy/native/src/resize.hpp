// Bilinear resizing of float planes with the arithmetic of `slipway_runtime.resize`, bit for bit.
#pragma once

#include <opencv2/core.hpp>
#include <span>
#include <vector>

namespace slipway {

// Along one axis: which two source positions each position is mixed from, and how much of the upper one.
struct Taps {
  std::vector<int> lower, upper;
  std::vector<float> weight;

  static Taps between(int source, int target, bool align_corners);
};

// A bilinear resize of planes from `source` to `target`.
class PlaneResize {
 public:
  PlaneResize(cv::Size source, cv::Size target, bool align_corners);

  cv::Size source, target;
  // The source's rows that the target's rows from `start` to `stop` are mixed from.
  cv::Range needs(int start, int stop) const;
  // The target's rows from `start` to `stop`, CV_32F, of a plane that holds the source's rows from `first` on.
  cv::Mat rows(const cv::Mat& plane, int first, int start, int stop) const;

 private:
  Taps rows_, columns_;
};

// Rows `start` to `stop` of a plane, CV_32F, that goes through several resizes; no more than these needs is computed. A
// step may take fewer rows and columns than the step before gives: what is too much is cut off at the right and bottom.
cv::Mat resized_rows(const cv::Mat& plane, std::span<const PlaneResize> steps, int start, int stop);

}  // namespace slipway
