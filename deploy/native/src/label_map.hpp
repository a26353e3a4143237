// A segmenter's logits → the label of each pixel.
#pragma once

#include <opencv2/core.hpp>

#include "manifest.hpp"
#include "preprocess.hpp"
#include "tensor.hpp"

namespace slipway {

// The logits of one image, C×h×w.
struct Logits {
  const float* data = nullptr;
  int channels = 0;
  cv::Size size;

  cv::Mat plane(int channel) const;
};

// The logits of the image at `index` of a batch. Throws VerificationError for an output that does not hold `channels`
// planes for it: what a graph declares and what it gives may differ.
Logits logits_at(const Tensor& output, std::size_t index, int channels);

// The label of each pixel of the image, CV_8UC1, at the image's own size.
cv::Mat label_map(const Logits& logits, const Prepared& prepared, const SegmentationOutput& output);

}  // namespace slipway
