// Preprocessing: the manifest's steps, bit for bit as `slipway_runtime.preprocess` does them.
#pragma once

#include <opencv2/core.hpp>
#include <string>
#include <vector>

#include "manifest.hpp"

namespace slipway {

// One image as the graph takes it, with the sizes that lead back to the image.
struct Prepared {
  std::vector<float> array;  // C×H×W
  int channels = 3;
  cv::Size size;                    // of the array
  cv::Size original;                // of the decoded image
  cv::Size content;                 // of what the array holds of the image, at its upper left
  double scale_x = 1, scale_y = 1;  // by how much resizing made the image wider and higher

  bool same_shape(const Prepared& other) const { return channels == other.channels && size == other.size; }
};

// Apply the steps after `decode` to an image, CV_8UC3 BGR. Throws ImageError, which begins with `name`, where a step
// leaves no or too many pixels.
Prepared preprocess(const cv::Mat& image, const std::vector<Step>& steps, const std::string& name);

}  // namespace slipway
