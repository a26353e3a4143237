// Resizing and comparing go block by block of rows and class by class: logits at the image's size would be 1.2 GB for
// 150 classes at 1080×1920.
#include "label_map.hpp"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "resize.hpp"
#include "sigmoid.hpp"

namespace slipway {
namespace {

// Pixels of one block; 4 bytes each, a few such blocks stay in a core's cache.
constexpr int kBlock = 1 << 15;

// From the logits' size to the input's, then from what the input holds of the image to the image's own size.
std::vector<PlaneResize> steps_of(cv::Size logits, const Prepared& prepared, bool align_corners) {
  std::vector<PlaneResize> steps;
  if (logits != prepared.size) steps.emplace_back(logits, prepared.size, align_corners);
  steps.emplace_back(prepared.content, prepared.original, align_corners);
  return steps;
}

// Write the label wherever a value is above the best one so far. Plain arrays, so that the compiler vectorises it.
void relabel(const float* values, int count, std::uint8_t label, float* best, std::uint8_t* labels) {
  for (int x = 0; x < count; ++x) {
    labels[x] = values[x] > best[x] ? label : labels[x];
    best[x] = values[x] > best[x] ? values[x] : best[x];
  }
}

// Of equal logits the first class stays. `labels` holds zeros.
void label_block(const Logits& logits, std::span<const PlaneResize> steps, int start, cv::Mat& labels) {
  const int stop = start + labels.rows;
  // A copy: without resizing, the rows are the graph's own.
  cv::Mat best = resized_rows(logits.plane(0), steps, start, stop).clone();
  for (int label = 1; label < logits.channels; ++label) {
    const cv::Mat plane = resized_rows(logits.plane(label), steps, start, stop);
    for (int y = 0; y < plane.rows; ++y)
      relabel(plane.ptr<float>(y), plane.cols, static_cast<std::uint8_t>(label), best.ptr<float>(y),
              labels.ptr<std::uint8_t>(y));
  }
}

// 1 where the one plane is above `outside`, the highest logit that is 0.
void label_block(const Logits& logits, std::span<const PlaneResize> steps, int start, float outside, cv::Mat& labels) {
  const cv::Mat plane = resized_rows(logits.plane(0), steps, start, start + labels.rows);
  for (int y = 0; y < labels.rows; ++y) {
    const auto* values = plane.ptr<float>(y);
    auto* written = labels.ptr<std::uint8_t>(y);
    const int width = labels.cols;
    for (int x = 0; x < width; ++x) written[x] = values[x] > outside;
  }
}

}  // namespace

cv::Mat Logits::plane(int channel) const {
  const auto area = static_cast<std::size_t>(size.area());
  // OpenCV has no read-only matrices; nothing writes to this one.
  return {size, CV_32F, const_cast<float*>(data + channel * area)};
}

Logits logits_at(const Tensor& output, std::size_t index, int channels) {
  const auto& shape = output.shape;
  const auto fits = [](std::int64_t size) { return 0 < size && size <= kMaxPixels; };
  if (output.dtype != DType::kFloat32 || shape.size() != 4 || static_cast<std::size_t>(shape[0]) <= index ||
      shape[1] != channels || !fits(shape[2]) || !fits(shape[3]) || !fits(shape[2] * shape[3]))
    throw VerificationError("output '" + output.name + "' does not hold float32 logits of " + std::to_string(channels) +
                            " channels for every image; verify the export");
  const cv::Size size(static_cast<int>(shape[3]), static_cast<int>(shape[2]));
  return {output.as<float>() + index * channels * static_cast<std::size_t>(size.area()), channels, size};
}

cv::Mat label_map(const Logits& logits, const Prepared& prepared, const SegmentationOutput& output) {
  const auto steps = steps_of(logits.size, prepared, output.align_corners);
  const auto [width, height] = prepared.original;
  cv::Mat labels = cv::Mat::zeros(prepared.original, CV_8UC1);
  const float outside = output.threshold ? highest_outside(*output.threshold) : 0;
  const int step = std::max(1, kBlock / width);
  for (int start = 0; start < height; start += step) {
    cv::Mat block = labels.rowRange(start, std::min(start + step, height));
    if (output.threshold)
      label_block(logits, steps, start, outside, block);
    else
      label_block(logits, steps, start, block);
  }
  return labels;
}

}  // namespace slipway
