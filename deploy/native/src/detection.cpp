// Detection and instance segmentation: boxes in the graph's input → boxes and masks in the image, as
// `slipway_runtime.tasks.detection` computes them.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <span>
#include <utility>

#include "draw.hpp"
#include "masks.hpp"
#include "task.hpp"

namespace slipway {
namespace {

// How many detections `line` names.
constexpr std::size_t kNamed = 5;
// The part of a turn of hue between one instance and the next: the golden ratio's, so that neighbours differ.
constexpr double kHue = 0.618034;

// A number as C's printf writes it, which is as Python's `format` does.
std::string formatted(const char* format, double value) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

// A hue, 0 to 1, at saturation 0.8 and full value; the arithmetic is that of Python's `colorsys.hsv_to_rgb`.
Colour of_hue(double hue) {
  const double saturation = 0.8;
  const int sector = static_cast<int>(hue * 6.0);
  const double within = hue * 6.0 - sector;
  const auto byte = [](double value) { return static_cast<std::uint8_t>(std::nearbyint(255 * value)); };
  const auto none = byte(1.0 - saturation), falling = byte(1.0 - saturation * within),
             rising = byte(1.0 - saturation * (1.0 - within)), full = byte(1.0);
  const std::array<Colour, 6> sectors{{{full, rising, none},
                                       {falling, full, none},
                                       {none, full, rising},
                                       {none, falling, full},
                                       {rising, none, full},
                                       {full, none, falling}}};
  return sectors[static_cast<std::size_t>(sector % 6)];
}

struct Detections {
  std::vector<Box> boxes;
  std::vector<float> scores;
  std::vector<std::int64_t> labels;
  std::unique_ptr<InstanceMasks> masks;  // none where the model has none
};

// The detections in one image, best first, those below the threshold too. The manifest outlives it.
class Detected final : public Result {
 public:
  Detected(const Manifest& manifest, double score_threshold, cv::Size size, Detections detections)
      : manifest_(manifest), score_threshold_(score_threshold), size_(size), found_(std::move(detections)) {}

  Json to_json() const override {
    Json detections = Json::array();
    for (const auto index : shown()) detections.push_back(detection(index));
    return {
        {"task", "detection"}, {"width", size_.width}, {"height", size_.height}, {"detections", std::move(detections)}};
  }

  std::string line() const override {
    const auto found = shown();
    if (found.empty()) return "nothing with a score of " + formatted("%g", score_threshold_) + " or more";
    std::string line = text(found.front());
    for (std::size_t index = 1; index < std::min(found.size(), kNamed); ++index) line += "  " + text(found[index]);
    if (found.size() > kNamed) line += "  +" + std::to_string(found.size() - kNamed) + " more";
    return line;
  }

  cv::Mat draw(const cv::Mat& image, double opacity) const override {
    cv::Mat canvas = image.clone();
    auto worst_first = shown();
    std::reverse(worst_first.begin(), worst_first.end());
    if (found_.masks)
      for (const auto index : worst_first) {
        const Mask mask = found_.masks->at(index);
        cv::Mat part = canvas(mask.extent);
        draw::tint(part, mask.part, colour(index), opacity);
      }
    for (const auto index : worst_first) draw::box(canvas, found_.boxes[index], text(index), colour(index));
    return canvas;
  }

  // Paste the masks of the detections shown.
  void settle() const override {
    if (found_.masks)
      for (const auto index : shown()) found_.masks->at(index);
  }

  void keep() override {
    if (found_.masks)
      for (const auto index : shown()) kept_.emplace(index, found_.masks->at(index));
  }

 private:
  Mask mask(std::size_t index) const {
    const auto kept = kept_.find(index);
    return kept == kept_.end() ? found_.masks->at(index) : kept->second;
  }

  // The detections with a score of the threshold or more, best first.
  std::vector<std::size_t> shown() const {
    std::vector<std::size_t> indices;
    for (std::size_t index = 0; index < found_.scores.size(); ++index)
      if (found_.scores[index] >= static_cast<float>(score_threshold_)) indices.push_back(index);
    return indices;
  }

  Json detection(std::size_t index) const {
    Json json{{"label", found_.labels[index]}, {"name", name(index)}, {"score", double{found_.scores[index]}}};
    json["box"] = std::vector<double>(found_.boxes[index].begin(), found_.boxes[index].end());
    if (found_.masks) json["mask"] = {{"size", {size_.height, size_.width}}, {"counts", run_lengths(mask(index))}};
    return json;
  }

  std::string text(std::size_t index) const { return name(index) + formatted(" %.2f", found_.scores[index]); }

  const std::string& name(std::size_t index) const {
    return manifest_.classes[static_cast<std::size_t>(found_.labels[index])];
  }

  // The class's; of masks of the same class everywhere, each has a colour of its own.
  Colour colour(std::size_t index) const {
    if (found_.masks && manifest_.classes.size() == 1) return of_hue(std::fmod(double(index) * kHue, 1.0));
    return manifest_.palette[static_cast<std::size_t>(found_.labels[index])];
  }

  const Manifest& manifest_;
  double score_threshold_;
  cv::Size size_;
  Detections found_;
  std::map<std::size_t, Mask> kept_;
};

// Boxes in pixels of the graph's input → in pixels of the image; in float32, as mmdet's.
Box in_image(Box box, const Prepared& prepared, bool clip) {
  const std::array<float, 2> content{float(prepared.content.width), float(prepared.content.height)};
  const std::array<float, 2> scale{float(prepared.scale_x), float(prepared.scale_y)};
  for (std::size_t index = 0; index < 4; ++index) {
    // This order of arguments makes 0 of −0, as numpy does.
    if (clip) box[index] = std::min(content[index % 2], std::max(0.0F, box[index]));
    box[index] /= scale[index % 2];
  }
  return box;
}

// Whether an output has that many axes, the first two those of the labels.
bool fits(const Tensor& output, std::size_t axes, const Tensor& labels) {
  return output.shape.size() == axes && output.shape[0] == labels.shape[0] && output.shape[1] == labels.shape[1] &&
         std::all_of(output.shape.begin() + 2, output.shape.end(), [](auto size) { return size > 0; });
}

class Detection final : public Task {
 public:
  Detection(const Manifest& manifest, const DetectionOutput& output) : manifest_(manifest), output_(output) {}

  std::unique_ptr<Result> finish(const Outputs& outputs, std::size_t index, const Prepared& prepared) const override {
    const Tensor &dets = output_named(outputs, "dets"), &labels = output_named(outputs, "labels");
    check(outputs, dets, labels);
    Detections detections;
    std::vector<Box> uncut;  // those that the graph drew the masks over
    const auto rows = found(labels, index);
    for (const auto row : rows) {
      const float* const det = dets.as<float>() + row * 5;
      const Box box{det[0], det[1], det[2], det[3]};
      detections.boxes.push_back(in_image(box, prepared, output_.clip));
      uncut.push_back(in_image(box, prepared, false));
      detections.scores.push_back(det[4]);
      detections.labels.push_back(labels.as<std::int64_t>()[row]);
    }
    if (output_.masks) detections.masks = masks(output_named(outputs, "masks"), rows, std::move(uncut), prepared);
    return std::make_unique<Detected>(manifest_, output_.score_threshold, prepared.original, std::move(detections));
  }

 private:
  // Throws VerificationError for outputs that do not belong together, or that name a class that is none.
  void check(const Outputs& outputs, const Tensor& dets, const Tensor& labels) const {
    const bool fit = fits(labels, 2, labels) && fits(dets, 3, labels) && dets.shape[2] == 5 &&
                     (!output_.masks || fits(output_named(outputs, "masks"), 4, labels));
    if (!fit) throw VerificationError(manifest_.name + ": outputs of shapes that do not fit; verify the export");
    const auto values = std::span(labels.as<std::int64_t>(), static_cast<std::size_t>(labels.count()));
    const auto highest = values.empty() ? -1 : std::ranges::max(values);
    if (highest >= std::ssize(manifest_.classes))
      throw VerificationError(manifest_.name + ": label " + std::to_string(highest) + ", of " +
                              std::to_string(manifest_.classes.size()) + " classes from 0 on; verify the export");
  }

  // The rows of all outputs that hold an image's detections; those that only fill up have a negative label.
  static std::vector<std::size_t> found(const Tensor& labels, std::size_t index) {
    const auto count = static_cast<std::size_t>(labels.shape[1]);
    std::vector<std::size_t> rows;
    for (std::size_t row = index * count; row < (index + 1) * count; ++row)
      if (labels.as<std::int64_t>()[row] >= 0) rows.push_back(row);
    return rows;
  }

  std::unique_ptr<InstanceMasks> masks(const Tensor& values, const std::vector<std::size_t>& rows,
                                       std::vector<Box> boxes, const Prepared& prepared) const {
    Planes planes{{}, {static_cast<int>(values.shape[3]), static_cast<int>(values.shape[2])}, values.owner};
    const auto size = static_cast<std::size_t>(planes.size.width) * static_cast<std::size_t>(planes.size.height);
    for (const auto row : rows) planes.values.push_back(values.as<float>() + row * size);
    const double threshold = output_.masks->threshold;
    if (!output_.masks->over_box) return std::make_unique<ImageMasks>(std::move(planes), prepared, threshold);
    return std::make_unique<BoxMasks>(std::move(planes), std::move(boxes), prepared.original, threshold);
  }

  const Manifest& manifest_;
  DetectionOutput output_;
};

}  // namespace

std::unique_ptr<Task> make_detection(const Manifest& manifest, const DetectionOutput& output) {
  return std::make_unique<Detection>(manifest, output);
}

}  // namespace slipway
