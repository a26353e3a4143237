// Reads the manifest's JSON strictly: no unknown field, no conversion, as pydantic does for `slipway_runtime`.
#include <algorithm>
#include <opencv2/imgproc.hpp>

#include "error.hpp"
#include "json_value.hpp"
#include "manifest.hpp"

namespace slipway {
namespace {

// How many classes a uint8 label map can hold beside 255, which stands for "ignored" in data sets.
constexpr std::size_t kMaxLabels = 255;

bool is_hash(const std::string& text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// A bare file name, or a path of one folder below the bundle (`engines/x.plan`): never absolute, never `..`.
bool is_bundle_path(std::string_view text) {
  constexpr std::string_view folder = "engines/";
  if (text.starts_with(folder)) text.remove_prefix(folder.size());
  const auto is_word = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  };
  return !text.empty() && is_word(text.front()) &&
         std::all_of(text.begin(), text.end(), [&](char c) { return is_word(c) || c == '.' || c == '-'; });
}

std::vector<double> per_channel(const Value& value) {
  std::vector<double> numbers;
  for (const auto& each : value.array()) numbers.push_back(each.number());
  if (numbers.size() != 1 && numbers.size() != 3)
    value.refuse("expected one value or three, got " + std::to_string(numbers.size()));
  return numbers;
}

int interpolation_of(const Value& step) {
  if (!step.has("interpolation")) return cv::INTER_LINEAR;
  constexpr std::array<int, 5> known{cv::INTER_NEAREST, cv::INTER_LINEAR, cv::INTER_CUBIC, cv::INTER_AREA,
                                     cv::INTER_LANCZOS4};
  return known[step["interpolation"].choice({"nearest", "bilinear", "bicubic", "area", "lanczos"})];
}

Step decode_of(const Value& step) {
  step.expect_fields({"op", "channel_order"});
  if (step.has("channel_order")) step["channel_order"].choice({"bgr"});
  return Decode{};
}

Step resize_of(const Value& step) {
  step.expect_fields({"op", "width", "height", "keep_ratio", "interpolation"});
  return Resize{step["width"].pixels(), step["height"].pixels(), step.has("keep_ratio") && step["keep_ratio"].boolean(),
                interpolation_of(step)};
}

Step resize_edge_of(const Value& step) {
  step.expect_fields({"op", "size", "edge", "interpolation"});
  constexpr std::array<Edge, 4> edges{Edge::kShort, Edge::kLong, Edge::kWidth, Edge::kHeight};
  return ResizeEdge{step["size"].pixels(), edges[step["edge"].choice({"short", "long", "width", "height"})],
                    interpolation_of(step)};
}

Step center_crop_of(const Value& step) {
  step.expect_fields({"op", "width", "height"});
  return CenterCrop{step["width"].pixels(), step["height"].pixels()};
}

Step pad_of(const Value& step) {
  step.expect_fields({"op", "width", "height", "divisor", "square", "value"});
  Pad pad;
  if (step.given("width")) pad.width = step["width"].pixels();
  if (step.given("height")) pad.height = step["height"].pixels();
  if (step.given("divisor")) pad.divisor = step["divisor"].pixels();
  if (step.has("square")) pad.square = step["square"].boolean();
  if (step.has("value")) pad.value = per_channel(step["value"]);
  const bool sized = pad.width && pad.height;
  if ((pad.width.has_value() != pad.height.has_value()) || sized + pad.divisor.has_value() + pad.square != 1)
    step.refuse("pad needs both width and height, divisor alone, or square alone");
  return pad;
}

Step normalize_of(const Value& step) {
  step.expect_fields({"op", "mean", "std", "reverse_channels"});
  Normalize normalize{per_channel(step["mean"]), per_channel(step["std"]), step["reverse_channels"].boolean()};
  if (*std::min_element(normalize.std.begin(), normalize.std.end()) <= 0) step.refuse("std must be above 0");
  return normalize;
}

std::vector<Step> steps_of(const Value& value) {
  std::vector<Step> steps;
  for (const auto& step : value.array()) {
    constexpr std::array readers{decode_of, resize_of, resize_edge_of, center_crop_of, pad_of, normalize_of};
    steps.push_back(
        readers[step["op"].choice({"decode", "resize", "resize_edge", "center_crop", "pad", "normalize"})](step));
  }
  if (steps.empty()) value.refuse("expected one step or more");
  bool normalized = false;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (std::holds_alternative<Decode>(steps[i]) != (i == 0)) value.refuse("decode comes first and once");
    // Resizing float images differs between OpenCV versions by 4e-3; uint8 images resize alike everywhere.
    if (normalized && !std::holds_alternative<Pad>(steps[i])) value.refuse("after normalize only pad may follow");
    normalized = normalized || std::holds_alternative<Normalize>(steps[i]);
  }
  return steps;
}

std::vector<TensorSpec> specs_of(const Value& value) {
  std::vector<TensorSpec> specs;
  for (const auto& each : value.array()) {
    each.expect_fields({"name", "dtype", "shape"});
    const auto dtype = dtype_named(each["dtype"].text());
    if (!dtype) each["dtype"].refuse("no data type of a graph");
    TensorSpec spec{each["name"].text(), *dtype, {}};
    for (const auto& size : each["shape"].array())
      spec.shape.push_back(size.is_integer() ? Dimension{size.integer(1), ""} : Dimension{0, size.text()});
    specs.push_back(spec);
  }
  if (specs.empty()) value.refuse("expected one or more");
  return specs;
}

Postprocess classification_of(const Value& value) {
  value.expect_fields({"task", "topk"});
  ClassificationOutput output;
  if (value.has("topk")) output.topk = value["topk"].integer(1);
  return output;
}

Postprocess segmentation_of(const Value& value) {
  value.expect_fields({"task", "logits", "align_corners", "threshold", "window"});
  if (value.has("logits")) value["logits"].choice({"full", "stride"});
  SegmentationOutput output{value["align_corners"].boolean(), std::nullopt, std::nullopt};
  if (value.given("threshold")) output.threshold = value["threshold"].number();
  if (value.given("window")) {
    const auto window = value["window"];
    window.expect_fields({"height", "width", "stride_height", "stride_width"});
    output.window = Window{window["height"].pixels(), window["width"].pixels(), window["stride_height"].pixels(),
                           window["stride_width"].pixels()};
    if (output.window->stride_height > output.window->height || output.window->stride_width > output.window->width)
      window.refuse("a stride larger than the window would leave pixels out");
  }
  return output;
}

Postprocess detection_of(const Value& value) {
  value.expect_fields({"task", "score_threshold", "clip", "masks"});
  DetectionOutput output;
  output.clip = value["clip"].boolean();
  if (value.has("score_threshold")) output.score_threshold = value["score_threshold"].number();
  if (output.score_threshold < 0 || output.score_threshold >= 1)
    value["score_threshold"].refuse("expected 0 or more and less than 1");
  if (value.given("masks")) {
    const auto masks = value["masks"];
    masks.expect_fields({"over", "threshold"});
    output.masks = Masks{masks["over"].choice({"box", "image"}) == 0, masks["threshold"].number()};
    if (output.masks->threshold <= 0 || output.masks->threshold >= 1)
      masks["threshold"].refuse("expected more than 0 and less than 1");
  }
  return output;
}

Postprocess postprocess_of(const Value& value) {
  constexpr std::array readers{classification_of, segmentation_of, detection_of};
  return readers[value["task"].choice({"classification", "segmentation", "detection"})](value);
}

// Refuse outputs that are not the task's.
void check_outputs(const Manifest& manifest, const Value& root) {
  const auto& outputs = manifest.outputs;
  const auto classes = manifest.classes.size();
  const auto is = [&](std::size_t index, DType dtype, std::size_t axes) {
    return outputs[index].dtype == dtype && outputs[index].shape.size() == axes;
  };
  const auto channels_are = [&](std::size_t axis, std::size_t count) {
    return outputs[0].shape[axis].size == static_cast<std::int64_t>(count);
  };
  const auto refuse = [&](const std::string& expected) {
    root["outputs"].refuse(expected + "; found " + text_of(outputs));
  };
  if (std::holds_alternative<ClassificationOutput>(manifest.postprocess)) {
    if (outputs.size() != 1 || outputs[0].shape.size() != 2 || !channels_are(1, classes))
      refuse("a classifier of " + std::to_string(classes) + " classes has one output of as many scores an image");
  } else if (const auto* segmentation = std::get_if<SegmentationOutput>(&manifest.postprocess)) {
    if (classes < 2 || classes > kMaxLabels)
      root["classes"].refuse("a segmenter has 2 to 255 classes, found " + std::to_string(classes));
    if (segmentation->threshold && classes != 2)
      root["classes"].refuse("a threshold tells 2 classes apart, found " + std::to_string(classes));
    if (outputs.size() != 1 || !is(0, DType::kFloat32, 4) || !channels_are(1, segmentation->threshold ? 1 : classes))
      refuse("expected one output float32 of logits, batch, classes, height and width");
  } else {
    const bool masks = std::get<DetectionOutput>(manifest.postprocess).masks.has_value();
    if (outputs.size() != (masks ? 3 : 2) || outputs[0].name != "dets" || outputs[1].name != "labels" ||
        !is(0, DType::kFloat32, 3) || !channels_are(2, 5) || !is(1, DType::kInt64, 2) ||
        (masks && (outputs[2].name != "masks" || !is(2, DType::kFloat32, 4))))
      refuse("a detector has dets float32 of 3 axes, the last being 5, labels int64 of 2 axes" +
             std::string(masks ? ", masks float32 of 4 axes" : ""));
  }
}

void check_fit(const Manifest& manifest, const Value& root) {
  if (manifest.input.shape.size() != 4) root["inputs"].refuse("the input is a batch of images, N×C×H×W");
  const bool crops = std::any_of(manifest.preprocess.begin(), manifest.preprocess.end(),
                                 [](const Step& step) { return std::holds_alternative<CenterCrop>(step); });
  if (manifest.task() == "detection" && crops)
    root["preprocess"].refuse("a detector's boxes are led back to the image by its scale alone, found a crop");
  check_outputs(manifest, root);
  if (manifest.palette.empty() && manifest.task() != "classification")
    root.refuse(std::string(manifest.task()) + " needs a palette, a colour a class");
  if (!manifest.palette.empty() && manifest.palette.size() != manifest.classes.size())
    root["palette"].refuse("a palette has a colour a class: " + std::to_string(manifest.classes.size()) + ", found " +
                           std::to_string(manifest.palette.size()));
}

void check_origin(const Value& origin) {
  origin.expect_fields({"checkpoint", "checkpoint_sha256", "config", "config_sha256"});
  origin["checkpoint"].text();
  for (const auto* key : {"checkpoint_sha256", "config_sha256"})
    if (!is_hash(origin[key].text())) origin[key].refuse("expected a SHA-256 of 64 hexadecimal digits");
  if (!is_bundle_path(origin["config"].text())) origin["config"].refuse("expected the name of a file in the bundle");
}

Manifest manifest_of(const Value& root) {
  root.expect_fields({"schema_version", "name", "classes", "palette", "inputs", "outputs", "preprocess", "postprocess",
                      "files", "origin", "tools"});
  Manifest manifest;
  manifest.name = root["name"].text();
  for (const auto& name : root["classes"].array()) manifest.classes.push_back(name.text());
  if (manifest.classes.empty()) root["classes"].refuse("expected one class or more");
  if (root.given("palette")) {
    for (const auto& entry : root["palette"].array()) {
      const auto values = entry.array();
      if (values.size() != 3) entry.refuse("expected red, green and blue");
      Colour colour;
      for (std::size_t i = 0; i < 3; ++i) colour[i] = static_cast<std::uint8_t>(values[i].integer(0, 255));
      manifest.palette.push_back(colour);
    }
    if (manifest.palette.empty()) root["palette"].refuse("expected a colour a class");
  }
  const auto inputs = specs_of(root["inputs"]);
  if (inputs.size() != 1) root["inputs"].refuse("expected one input, the images");
  manifest.input = inputs[0];
  manifest.outputs = specs_of(root["outputs"]);
  manifest.preprocess = steps_of(root["preprocess"]);
  manifest.postprocess = postprocess_of(root["postprocess"]);
  if (root.has("files")) {
    for (const auto& [name, hash] : root["files"].items()) {
      if (!is_bundle_path(name)) hash.refuse("expected the name of a file in the bundle");
      if (!is_hash(hash.text())) hash.refuse("expected a SHA-256 of 64 hexadecimal digits");
      manifest.files[name] = hash.text();
    }
  }
  check_origin(root["origin"]);
  for (const auto& [_, version] : root["tools"].items()) version.text();
  check_fit(manifest, root);
  return manifest;
}

// No manifest is nested as deep; what were deeper would overflow the stack where it is shown.
constexpr int kMostLevels = 32;

// What the parser lets pass is refused first: a byte order mark, and whatever comes after a null byte.
nlohmann::json json_of(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF"))
    throw std::invalid_argument("not valid JSON (it begins with a byte order mark)");
  if (text.find('\0') != text.npos) throw std::invalid_argument("not valid JSON (it holds a null byte)");
  return nlohmann::json::parse(text, [](int depth, nlohmann::json::parse_event_t, const nlohmann::json&) {
    if (depth > kMostLevels) throw std::invalid_argument("not valid JSON (nested too deep)");
    return true;
  });
}

void check_version(const nlohmann::json& raw, const std::string& where) {
  const auto version = raw.is_object() ? raw.value("schema_version", nlohmann::json()) : nlohmann::json();
  if (version.is_number_integer() && version == kSchemaVersion) return;
  throw BundleError(where + ": schema_version " + shown(version) + ", this program reads " +
                    std::to_string(kSchemaVersion) + "; export again or update ort_infer");
}

}  // namespace

Manifest parse_manifest(std::string_view text, const std::string& where) {
  try {
    const auto raw = json_of(text);
    check_version(raw, where);
    return manifest_of(Value(raw, ""));
  } catch (const nlohmann::json::parse_error& error) {
    throw BundleError(where + ": not valid JSON (at byte " + std::to_string(error.byte) + "); export again");
  } catch (const nlohmann::json::exception& error) {
    throw BundleError(where + ": not valid JSON (" + one_line(error.what()) + "); export again");
  } catch (const std::invalid_argument& error) {
    throw BundleError(where + ": " + one_line(error.what()) + "; export again");
  }
}

}  // namespace slipway
