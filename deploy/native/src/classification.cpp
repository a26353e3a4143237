// Classification: a score a class → the best classes, as `slipway_runtime.tasks.classification`.
#include <algorithm>
#include <cstdio>
#include <numeric>

#include "draw.hpp"
#include "task.hpp"

namespace slipway {
namespace {

std::string fixed(float value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, static_cast<double>(value));
  return text;
}

struct Entry {
  int label = 0;
  float score = 0;
};

// The best classes of one image, best first.
class ClassificationResult final : public Result {
 public:
  ClassificationResult(const std::vector<std::string>& names, std::vector<Entry> top)
      : names_(names), top_(std::move(top)) {}

  Json to_json() const override {
    auto top = Json::array();
    for (const auto& [label, score] : top_)
      top.push_back({{"label", label}, {"name", names_[label]}, {"score", static_cast<double>(score)}});
    return {{"task", "classification"}, {"top", std::move(top)}};
  }

  std::string line() const override {
    std::string text;
    for (const auto& [label, score] : top_)
      text += (text.empty() ? "" : "  ") + names_[label] + " (" + fixed(score, 3) + ")";
    return text;
  }

  // The best class and its score in the upper left corner.
  cv::Mat draw(const cv::Mat& image, double) const override {
    const auto& [label, score] = top_.front();
    return draw::label(image, names_[label] + " " + fixed(score, 2));
  }

 private:
  const std::vector<std::string>& names_;
  std::vector<Entry> top_;
};

class Classification final : public Task {
 public:
  Classification(const Manifest& manifest, const ClassificationOutput& output) : manifest_(manifest), output_(output) {}

  std::unique_ptr<Result> finish(const Outputs& outputs, std::size_t index, const Prepared&) const override {
    const auto scores = row(output_named(outputs, manifest_.outputs.front().name), index);
    std::vector<Entry> entries(scores.size());
    for (std::size_t label = 0; label < scores.size(); ++label)
      entries[label] = {static_cast<int>(label), scores[label]};
    // Stable: of equal scores the lower label comes first.
    std::stable_sort(entries.begin(), entries.end(), [](auto& a, auto& b) { return a.score > b.score; });
    entries.resize(std::min(entries.size(), static_cast<std::size_t>(output_.topk)));
    return std::make_unique<ClassificationResult>(manifest_.classes, std::move(entries));
  }

 private:
  // One image's scores. What a graph declares and what it gives may differ.
  std::span<const float> row(const Tensor& scores, std::size_t index) const {
    const auto classes = manifest_.classes.size();
    const auto& shape = scores.shape;
    if (scores.dtype != DType::kFloat32 || shape.size() != 2 || static_cast<std::size_t>(shape[0]) <= index ||
        static_cast<std::size_t>(shape[1]) != classes)
      throw VerificationError(manifest_.name + ": output '" + scores.name + "' does not hold " +
                              std::to_string(classes) + " float32 scores an image; verify the export");
    return {scores.as<float>() + index * classes, classes};
  }

  const Manifest& manifest_;
  const ClassificationOutput& output_;
};

}  // namespace

std::unique_ptr<Task> make_classification(const Manifest& manifest, const ClassificationOutput& output) {
  return std::make_unique<Classification>(manifest, output);
}

}  // namespace slipway
