// Instance masks: what a graph gives for each detection → the pixels of the image that belong to it, as
// `slipway_runtime.masks` computes them.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <opencv2/core.hpp>
#include <vector>

#include "preprocess.hpp"
#include "resize.hpp"

namespace slipway {

// x1, y1, x2, y2 in pixels of the image.
using Box = std::array<float, 4>;

// One instance's pixels; a large image's own size is not spent on a small instance.
struct Mask {
  cv::Size image;
  cv::Rect extent;  // where `part` lies in the image; outside of it no pixel belongs to the instance
  cv::Mat part;     // CV_8UC1 of 0 and 1
};

// h×w values for each detection, in memory that `owner` keeps.
struct Planes {
  std::vector<const float*> values;
  cv::Size size;
  std::shared_ptr<const void> owner;
};

// The masks of an image's detections, in their order. Each is computed anew when it is asked for: a hundred masks of a
// large image take a hundred times the memory of the numbers they are computed from.
class InstanceMasks {
 public:
  virtual ~InstanceMasks() = default;
  virtual Mask at(std::size_t index) const = 0;
};

// Probabilities on a grid over each detection's own box; a pixel belongs to it from the threshold on.
class BoxMasks : public InstanceMasks {
 public:
  BoxMasks(Planes probabilities, std::vector<Box> boxes, cv::Size image, double threshold);
  Mask at(std::size_t index) const override;

 private:
  Planes probabilities_;
  std::vector<Box> boxes_;
  cv::Size image_;
  float threshold_;
};

// Logits over the graph's whole input; a pixel belongs to the detection above the threshold.
class ImageMasks : public InstanceMasks {
 public:
  ImageMasks(Planes logits, const Prepared& prepared, double threshold);
  Mask at(std::size_t index) const override;

 private:
  Planes logits_;
  cv::Size image_, scaled_;
  std::vector<PlaneResize> steps_;
  float highest_outside_;
};

// COCO's uncompressed run lengths: of pixels outside and inside by turns, column by column, outside first.
std::vector<int> run_lengths(const Mask& mask);

}  // namespace slipway
