#include "windows.hpp"

#include <algorithm>
#include <array>
#include <memory>

#include "label_map.hpp"
#include "resize.hpp"

namespace slipway {
namespace {

std::vector<int> starts_of(int size, int window, int stride) {
  const int last = std::max(size - window, 0);
  std::vector<int> starts;
  for (int start = 0; start < last + stride; start += stride) starts.push_back(std::min(start, last));
  return starts;
}

// Logits of N×C planes of one size, contiguous.
class Total {
 public:
  Total(cv::Size size, std::size_t planes)
      : size_(size), values_(std::make_shared<std::vector<float>>(planes * static_cast<std::size_t>(size.area()))) {}

  cv::Mat plane(std::size_t index) {
    return {size_, CV_32F, values_->data() + index * static_cast<std::size_t>(size_.area())};
  }

  Tensor tensor(const std::string& name, std::int64_t images, std::int64_t channels) const {
    return {name, DType::kFloat32, {images, channels, size_.height, size_.width}, values_->data(), values_};
  }

 private:
  cv::Size size_;
  std::shared_ptr<std::vector<float>> values_;
};

void add(const cv::Mat& values, cv::Mat sums) {
  for (int y = 0; y < values.rows; ++y) {
    const auto* from = values.ptr<float>(y);
    auto* to = sums.ptr<float>(y);
    for (int x = 0; x < values.cols; ++x) to[x] += from[x];
  }
}

void divide(cv::Mat sums, const cv::Mat& counts) {
  for (int y = 0; y < sums.rows; ++y) {
    const auto* count = counts.ptr<float>(y);
    auto* to = sums.ptr<float>(y);
    for (int x = 0; x < sums.cols; ++x) to[x] /= count[x];
  }
}

// Add one image's logits of one window, resized to the window's size, to the planes from `first` on.
void add_window(const Logits& logits, const cv::Rect& window, bool align_corners, Total& total, std::size_t first) {
  const std::array<PlaneResize, 1> steps{PlaneResize(logits.size, window.size(), align_corners)};
  for (int channel = 0; channel < logits.channels; ++channel)
    add(resized_rows(logits.plane(channel), steps, 0, window.height), total.plane(first + channel)(window));
}

}  // namespace

std::vector<cv::Rect> windows_of(cv::Size image, const Window& window) {
  const auto lefts = starts_of(image.width, window.width, window.stride_width);
  std::vector<cv::Rect> windows;
  for (const int top : starts_of(image.height, window.height, window.stride_height))
    for (const int left : lefts)
      windows.emplace_back(left, top, std::min(window.width, image.width), std::min(window.height, image.height));
  return windows;
}

Batch cut(std::span<const Prepared* const> batch, const cv::Rect& window) {
  const auto& first = *batch.front();
  const auto width = static_cast<std::size_t>(first.size.width);
  Batch parts{{}, first.channels, window.size(), width, static_cast<std::size_t>(first.size.area())};
  for (const auto* prepared : batch) parts.arrays.push_back(prepared->array.data() + window.y * width + window.x);
  return parts;
}

Tensor slide(std::span<const Prepared* const> batch, const Run& run, const Window& window, const SlidingGraph& graph) {
  const auto size = batch.front()->size;
  const auto planes = batch.size() * graph.channels;
  Total total(size, planes);
  cv::Mat counts = cv::Mat::zeros(size, CV_32F);
  for (const auto& place : windows_of(size, window)) {
    const auto outputs = run(cut(batch, place));
    const auto& output = output_named(outputs, graph.output);
    for (std::size_t image = 0; image < batch.size(); ++image)
      add_window(logits_at(output, image, graph.channels), place, graph.align_corners, total, image * graph.channels);
    counts(place) += 1;
  }
  for (std::size_t plane = 0; plane < planes; ++plane) divide(total.plane(plane), counts);
  return total.tensor(graph.output, static_cast<std::int64_t>(batch.size()), graph.channels);
}

}  // namespace slipway
