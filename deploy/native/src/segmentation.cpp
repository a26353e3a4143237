// Semantic segmentation: logits → a label a pixel, at the image's own size, as `slipway_runtime.tasks.segmentation`.
#include <algorithm>
#include <array>
#include <cstdio>

#include "draw.hpp"
#include "label_map.hpp"
#include "task.hpp"
#include "windows.hpp"

namespace slipway {
namespace {

// How many classes `line` names.
constexpr std::size_t kNamed = 5;
// The ending of the label map that is written beside a drawing.
constexpr const char* kBeside = ".labels.png";

struct Area {
  int label = 0;
  std::int64_t pixels = 0;
};

// The classes present, most pixels first, of equal ones the lower label.
std::vector<Area> areas_of(const cv::Mat& labels) {
  std::array<std::int64_t, 256> counts{};
  for (int y = 0; y < labels.rows; ++y)
    for (const auto label : std::span(labels.ptr<std::uint8_t>(y), static_cast<std::size_t>(labels.cols)))
      ++counts[label];
  std::vector<Area> areas;
  for (int label = 0; label < 256; ++label)
    if (counts[label]) areas.push_back({label, counts[label]});
  std::stable_sort(areas.begin(), areas.end(), [](auto& a, auto& b) { return a.pixels > b.pixels; });
  return areas;
}

std::string percent(std::int64_t pixels, std::int64_t of) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", static_cast<double>(100 * pixels) / static_cast<double>(of));
  return text;
}

// The label of each pixel of one image.
class SegmentationResult final : public Result {
 public:
  SegmentationResult(const Manifest& manifest, cv::Mat labels)
      : manifest_(manifest), labels_(std::move(labels)), areas_(areas_of(labels_)), pixels_(labels_.size().area()) {}

  Json to_json() const override {
    auto classes = Json::array();
    for (const auto& [label, pixels] : areas_) {
      const auto share = static_cast<double>(pixels) / static_cast<double>(pixels_);
      classes.push_back({{"label", label}, {"name", name(label)}, {"pixels", pixels}, {"share", share}});
    }
    return {
        {"task", "segmentation"}, {"width", labels_.cols}, {"height", labels_.rows}, {"classes", std::move(classes)}};
  }

  // The largest classes, then how many more.
  std::string line() const override {
    const auto named = std::min(areas_.size(), kNamed);
    std::string text;
    for (const auto& [label, pixels] : std::span(areas_).first(named))
      text += (text.empty() ? "" : "  ") + name(label) + " " + percent(pixels, pixels_);
    return areas_.size() > named ? text + "  +" + std::to_string(areas_.size() - named) + " more" : text;
  }

  // The image under its classes' colours, with the names of the classes present.
  cv::Mat draw(const cv::Mat& image, double opacity) const override {
    std::vector<std::pair<std::string, Colour>> entries;
    for (const auto& area : areas_) entries.emplace_back(name(area.label), manifest_.palette[area.label]);
    return draw::legend(draw::overlay(image, labels_, manifest_.palette, opacity), std::move(entries));
  }

  cv::Mat labels() const override { return labels_; }

  std::map<std::string, Bytes> beside() const override {
    return {{kBeside, encode_labels(labels_, manifest_.palette)}};
  }

 private:
  const std::string& name(int label) const { return manifest_.classes[label]; }

  const Manifest& manifest_;
  cv::Mat labels_;
  std::vector<Area> areas_;
  std::int64_t pixels_;
};

class Segmentation final : public Task {
 public:
  Segmentation(const Manifest& manifest, const SegmentationOutput& output)
      : manifest_(manifest),
        output_(output),
        graph_{manifest.outputs.front().name, output.threshold ? 1 : static_cast<int>(manifest.classes.size()),
               output.align_corners} {}

  Outputs run(std::span<const Prepared* const> batch, const Run& run) const override {
    if (!output_.window) return Task::run(batch, run);
    return {slide(batch, run, *output_.window, graph_)};
  }

  Batch first_input(std::span<const Prepared* const> batch) const override {
    if (!output_.window) return Task::first_input(batch);
    return cut(batch, windows_of(batch.front()->size, *output_.window).front());
  }

  std::unique_ptr<Result> finish(const Outputs& outputs, std::size_t index, const Prepared& prepared) const override {
    const auto logits = logits_at(output_named(outputs, graph_.output), index, graph_.channels);
    return std::make_unique<SegmentationResult>(manifest_, label_map(logits, prepared, output_));
  }

  std::vector<std::string> beside() const override { return {kBeside}; }

 private:
  const Manifest& manifest_;
  const SegmentationOutput& output_;
  SlidingGraph graph_;
};

}  // namespace

std::unique_ptr<Task> make_segmentation(const Manifest& manifest, const SegmentationOutput& output) {
  return std::make_unique<Segmentation>(manifest, output);
}

}  // namespace slipway
