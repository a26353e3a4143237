#include "masks.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "sigmoid.hpp"

namespace slipway {
namespace {

// Rows of an `ImageMasks` that are resized at once: enough to share what neighbours are mixed from, few enough for a
// processor's cache.
constexpr int kStrip = 64;

// The pixels along one axis from one before the box to one after it, within the image.
cv::Range around(float low, float high, int size) {
  const double start = std::floor(double{low}) - 1, stop = std::ceil(double{high}) + 1;
  const int first = static_cast<int>(std::clamp(start, 0.0, double(size)));
  return {first, static_cast<int>(std::clamp(stop, double(first), double(size)))};
}

// Between which two cells of a grid with a border of zeros a pixel's centre lies, and the share of each.
struct Between {
  int lower, upper;
  float of_lower, of_upper;
};

// Where a pixel's centre lies on a grid of `cells` between `low` and `high`: torch's `grid_sample` without
// `align_corners`. Cell i's centre is i; all in float32, the last step a fused multiply-add.
float position(int pixel, float low, float high, int cells) {
  const float centre = static_cast<float>(pixel) + 0.5F;
  float grid = (centre - low) / (high - low) * 2.0F - 1.0F;
  if (std::isinf(grid)) grid = 0.0F;  // as mmdet does: a box without extent takes the middle of its mask
  const double at = double{grid + 1.0F} * (cells / 2.0) - 0.5;
  // Further than a cell outside all is zero; and so it is where 0 / 0 gave no number.
  return std::isnan(at) ? -2.0F : static_cast<float>(std::clamp(at, -2.0, cells + 1.0));
}

std::vector<Between> positions(float low, float high, cv::Range pixels, int cells) {
  std::vector<Between> found;
  found.reserve(pixels.size());
  for (int pixel = pixels.start; pixel < pixels.end; ++pixel) {
    const float at = position(pixel, low, high, cells), floor = std::floor(at), of_upper = at - floor;
    const int first = static_cast<int>(floor) + 1;  // the border's width further
    found.push_back({std::clamp(first, 0, cells + 1), std::clamp(first + 1, 0, cells + 1), 1.0F - of_upper, of_upper});
  }
  return found;
}

// The grid with a border of zeros, as float64.
cv::Mat padded(const float* values, cv::Size size) {
  cv::Mat grid = cv::Mat::zeros(size.height + 2, size.width + 2, CV_64F);
  for (int row = 0; row < size.height; ++row, values += size.width)
    std::copy(values, values + size.width, grid.ptr<double>(row + 1) + 1);
  return grid;
}

// torch's fused multiply-add of float32: the product is exact in float64, the sum is rounded to float32.
float add_product(double value, float weight, float total) {
  return static_cast<float>(value * double{weight} + double{total});
}

// One row of the part: the four cells around each pixel's centre are added up in torch's order (GridSamplerKernel.cpp).
void sample_row(const cv::Mat& grid, const Between& down, const std::vector<Between>& across, float threshold,
                std::uint8_t* out) {
  const double *lower = grid.ptr<double>(down.lower), *upper = grid.ptr<double>(down.upper);
  for (const auto& [left, right, of_left, of_right] : across) {
    float total = add_product(lower[left], down.of_lower * of_left, 0.0F);
    total = add_product(lower[right], down.of_lower * of_right, total);
    total = add_product(upper[left], down.of_upper * of_left, total);
    total = add_product(upper[right], down.of_upper * of_right, total);
    *out++ = total >= threshold;
  }
}

// Pixels outside and inside by turns.
class Runs {
 public:
  void add(std::uint8_t value, int count) {
    if (count == 0) return;
    if (value != value_) {
      lengths_.push_back(length_);
      value_ = value;
      length_ = 0;
    }
    length_ += count;
  }
  // A column of a mask's part.
  void add_all(const std::uint8_t* values, int count) {
    while (count > 0) {
      const auto* const next = static_cast<const std::uint8_t*>(std::memchr(values, 1 - *values, count));
      const int length = next ? static_cast<int>(next - values) : count;
      add(*values, length);
      values += length;
      count -= length;
    }
  }
  std::vector<int> finish() && {
    lengths_.push_back(length_);
    return std::move(lengths_);
  }

 private:
  std::vector<int> lengths_;
  std::uint8_t value_ = 0;
  int length_ = 0;
};

}  // namespace

BoxMasks::BoxMasks(Planes probabilities, std::vector<Box> boxes, cv::Size image, double threshold)
    : probabilities_(std::move(probabilities)),
      boxes_(std::move(boxes)),
      image_(image),
      threshold_(static_cast<float>(threshold)) {}

Mask BoxMasks::at(std::size_t index) const {
  const auto [x1, y1, x2, y2] = boxes_[index];
  const cv::Range columns = around(x1, x2, image_.width), rows = around(y1, y2, image_.height);
  if (columns.empty() || rows.empty()) return {image_, {}, {}};
  const cv::Size size = probabilities_.size;
  const cv::Mat grid = padded(probabilities_.values[index], size);
  const auto across = positions(x1, x2, columns, size.width), down = positions(y1, y2, rows, size.height);
  cv::Mat part(rows.size(), columns.size(), CV_8UC1);
  for (int row = 0; row < part.rows; ++row)
    sample_row(grid, down[row], across, threshold_, part.ptr<std::uint8_t>(row));
  return {image_, {columns.start, rows.start, part.cols, part.rows}, part};
}

// As by `_bbox_mask_post_process` of `mmdet/models/dense_heads/rtmdet_ins_head.py`: resized to the input's size, then
// by the image's scale, its height by the width's factor and its width by the height's. They differ by rounding only,
// but that may leave the last rows or columns without a value: these belong to nothing.
ImageMasks::ImageMasks(Planes logits, const Prepared& prepared, double threshold)
    : logits_(std::move(logits)),
      image_(prepared.original),
      scaled_(static_cast<int>(std::ceil(prepared.size.width * (1 / prepared.scale_y))),
              static_cast<int>(std::ceil(prepared.size.height * (1 / prepared.scale_x)))),
      steps_{{logits_.size, prepared.size, false}, {prepared.size, scaled_, false}},
      highest_outside_(highest_outside(threshold)) {}

Mask ImageMasks::at(std::size_t index) const {
  // OpenCV has no header for constant memory; nothing writes to this one.
  const cv::Mat logits(logits_.size, CV_32F, const_cast<float*>(logits_.values[index]));
  cv::Mat mask(std::min(scaled_.height, image_.height), std::min(scaled_.width, image_.width), CV_8UC1);
  for (int start = 0; start < mask.rows; start += kStrip) {
    const int stop = std::min(start + kStrip, mask.rows);
    const cv::Mat strip = resized_rows(logits, steps_, start, stop);
    for (int row = start; row < stop; ++row) {
      const auto* const values = strip.ptr<float>(row - start);
      std::transform(values, values + mask.cols, mask.ptr<std::uint8_t>(row),
                     [this](float value) { return static_cast<std::uint8_t>(value > highest_outside_); });
    }
  }
  return {image_, {{0, 0}, mask.size()}, mask};
}

std::vector<int> run_lengths(const Mask& mask) {
  cv::Mat columns;
  if (!mask.part.empty()) cv::transpose(mask.part, columns);
  const int above = mask.extent.y, below = mask.image.height - above - mask.part.rows;
  const int right = mask.image.width - mask.extent.x - columns.rows;
  Runs runs;
  runs.add(0, mask.extent.x * mask.image.height);
  for (int column = 0; column < columns.rows; ++column) {
    runs.add(0, above);
    runs.add_all(columns.ptr<std::uint8_t>(column), columns.cols);
    runs.add(0, below);
  }
  runs.add(0, right * mask.image.height);
  return std::move(runs).finish();
}

}  // namespace slipway
