#include "preprocess.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <opencv2/imgproc.hpp>

#include "error.hpp"

namespace slipway {
namespace {

// An image between two steps: uint8 H×W×3 until `normalize`, float planes from then on.
class Stage {
 public:
  Stage(cv::Mat image, const std::string& name) : image_(std::move(image)), name_(name) {
    prepared_.original = prepared_.content = image_.size();
  }

  void operator()(const Decode&) {}

  // See `mmcv.transforms.Resize`; the rounding with `keep_ratio` is `mmcv.image.rescale_size`'s.
  void operator()(const Resize& step) {
    std::int64_t width = step.width, height = step.height;
    if (step.keep_ratio) {
      const double longer = std::max(image_.cols, image_.rows), shorter = std::min(image_.cols, image_.rows);
      const double scale =
          std::min(std::max(step.width, step.height) / longer, std::min(step.width, step.height) / shorter);
      width = static_cast<std::int64_t>(image_.cols * scale + 0.5);
      height = static_cast<std::int64_t>(image_.rows * scale + 0.5);
    }
    resize_to(width, height, step.interpolation, "resize");
  }

  // See `mmpretrain.datasets.ResizeEdge`: the other edge is rounded down; a square image counts as wide.
  void operator()(const ResizeEdge& step) {
    const bool by_width = step.edge == Edge::kWidth || (step.edge == Edge::kShort && image_.cols < image_.rows) ||
                          (step.edge == Edge::kLong && image_.cols > image_.rows);
    const double along = by_width ? image_.cols : image_.rows, across = by_width ? image_.rows : image_.cols;
    const auto scaled = static_cast<std::int64_t>(step.size * across / along);
    resize_to(by_width ? step.size : scaled, by_width ? scaled : step.size, step.interpolation, "resize_edge");
  }

  // See `mmcv.transforms.CenterCrop`: halves are rounded to even, as Python's `round` does. A view, no copy.
  void operator()(const CenterCrop& step) {
    const auto start = [](int size, int wanted) {
      return std::max(0, static_cast<int>(std::nearbyint((size - wanted) / 2.0)));
    };
    const cv::Rect wanted(start(image_.cols, step.width), start(image_.rows, step.height), step.width, step.height);
    image_ = image_(wanted & cv::Rect(cv::Point(), image_.size()));
  }

  // See `mmcv.transforms.Pad` and, after `normalize`, `mmengine.model.stack_batch`.
  void operator()(const Pad& step) {
    const auto size = normalized_ ? prepared_.size : image_.size();
    const auto up = [](int value, int divisor) {
      return static_cast<std::int64_t>((divisor - value % divisor) % divisor);
    };
    std::int64_t right = 0, bottom = 0;
    if (step.square) {
      right = std::max(size.width, size.height) - size.width;
      bottom = std::max(size.width, size.height) - size.height;
    } else if (step.divisor) {
      right = up(size.width, *step.divisor);
      bottom = up(size.height, *step.divisor);
    } else {
      right = std::max(0, *step.width - size.width);
      bottom = std::max(0, *step.height - size.height);
    }
    check_size(size.width + right, size.height + bottom, name_ + ": pad");
    const auto across = static_cast<int>(right), down = static_cast<int>(bottom);
    if (normalized_) {
      pad_planes(down, across, step.value);
    } else {
      cv::Mat padded;
      cv::copyMakeBorder(image_, padded, 0, down, 0, across, cv::BORDER_CONSTANT,
                         {channel(step.value, 0), channel(step.value, 1), channel(step.value, 2)});
      image_ = padded;
    }
  }

  // See `mmpretrain.models.ClsDataPreprocessor` and `mmengine.model.ImgDataPreprocessor`. A byte has 256 values, so the
  // arithmetic is done 256 times a channel.
  void operator()(const Normalize& step) {
    std::array<std::array<float, 256>, 3> tables;
    for (std::size_t c = 0; c < 3; ++c) {
      const auto mean = static_cast<float>(channel(step.mean, c)), std = static_cast<float>(channel(step.std, c));
      for (std::size_t value = 0; value < 256; ++value) tables[c][value] = (static_cast<float>(value) - mean) / std;
    }
    prepared_.content = image_.size();
    to_planes(tables, step.reverse_channels);
  }

  Prepared finish() && {
    if (!normalized_) {
      prepared_.content = image_.size();
      std::array<float, 256> same;
      for (std::size_t value = 0; value < 256; ++value) same[value] = static_cast<float>(value);
      to_planes({same, same, same}, false);
    }
    return std::move(prepared_);
  }

 private:
  static double channel(const std::vector<double>& values, std::size_t index) {
    return values.size() == 1 ? values[0] : values[index];
  }

  void resize_to(std::int64_t width, std::int64_t height, int interpolation, const char* op) {
    check_size(width, height, name_ + ": " + op);
    prepared_.scale_x *= static_cast<double>(width) / image_.cols;
    prepared_.scale_y *= static_cast<double>(height) / image_.rows;
    cv::Mat resized;
    cv::resize(image_, resized, cv::Size(static_cast<int>(width), static_cast<int>(height)), 0, 0, interpolation);
    image_ = resized;
  }

  void to_planes(const std::array<std::array<float, 256>, 3>& tables, bool reverse) {
    normalized_ = true;
    prepared_.size = image_.size();
    const auto area = static_cast<std::size_t>(image_.total());
    prepared_.array.resize(3 * area);
    for (int y = 0; y < image_.rows; ++y) {
      const auto* pixels = image_.ptr<std::uint8_t>(y);
      for (std::size_t c = 0; c < 3; ++c) {
        auto* row = prepared_.array.data() + c * area + static_cast<std::size_t>(y) * image_.cols;
        const auto& table = tables[c];
        const auto* values = pixels + (reverse ? 2 - c : c);
        for (int x = 0; x < image_.cols; ++x) row[x] = table[values[3 * x]];
      }
    }
  }

  void pad_planes(int down, int across, const std::vector<double>& value) {
    if (!down && !across) return;
    const cv::Size size(prepared_.size.width + across, prepared_.size.height + down);
    std::vector<float> padded(3 * static_cast<std::size_t>(size.area()));
    for (int c = 0; c < 3; ++c) {
      const cv::Mat plane(prepared_.size, CV_32F,
                          prepared_.array.data() + static_cast<std::size_t>(c) * prepared_.size.area());
      cv::Mat target(size, CV_32F, padded.data() + static_cast<std::size_t>(c) * size.area());
      cv::copyMakeBorder(plane, target, 0, down, 0, across, cv::BORDER_CONSTANT, channel(value, c));
    }
    prepared_.array = std::move(padded);
    prepared_.size = size;
  }

  cv::Mat image_;
  const std::string& name_;
  Prepared prepared_;
  bool normalized_ = false;
};

}  // namespace

Prepared preprocess(const cv::Mat& image, const std::vector<Step>& steps, const std::string& name) {
  Stage stage(image, name);
  for (const auto& step : steps) std::visit(stage, step);
  return std::move(stage).finish();
}

}  // namespace slipway
