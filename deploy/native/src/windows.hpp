// Sliding windows: an image goes through the graph piece by piece, and the pieces' logits are averaged.
#pragma once

#include <opencv2/core.hpp>
#include <span>
#include <string>
#include <vector>

#include "task.hpp"

namespace slipway {

// The windows of an image of this size, row by row: one at each stride, moved back where it would end outside the
// image.
std::vector<cv::Rect> windows_of(cv::Size image, const Window& window);

// These pixels of each image's array, where they lie.
Batch cut(std::span<const Prepared* const> batch, const cv::Rect& window);

// A segmenter: its one output's name and channels, and the corners' alignment in resizing.
struct SlidingGraph {
  std::string output;
  int channels;
  bool align_corners;
};

// Logits of images, N×C×H×W, averaged over the windows that hold a pixel.
Tensor slide(std::span<const Prepared* const> batch, const Run& run, const Window& window, const SlidingGraph& graph);

}  // namespace slipway
