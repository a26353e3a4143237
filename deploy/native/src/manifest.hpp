// `manifest.json`: everything about a model that a runtime needs. The fields, their defaults and what is refused are
// those of `slipway_runtime.manifest`, where each is explained.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "image.hpp"

namespace slipway {

inline constexpr int kSchemaVersion = 1;
inline constexpr std::string_view kManifestName = "manifest.json";
inline constexpr std::string_view kGraphName = "model.onnx";
// In which precisions a bundle may hold its graph; `graph_named` gives the file of each.
inline constexpr std::array<std::string_view, 3> kPrecisions{"fp32", "fp16", "int8"};
// The ONNX metadata entry that holds the manifest's JSON.
inline constexpr const char* kMetadataKey = "slipway.manifest";

enum class DType { kFloat32, kFloat16, kUint8, kInt8, kInt32, kInt64, kBool };

std::string_view name_of(DType dtype);
std::optional<DType> dtype_named(std::string_view name);

// A graph input or output. A symbolic dimension has a name and no size, a fixed one a size.
struct Dimension {
  std::int64_t size = 0;  // 0: symbolic
  std::string symbol;
  bool is_fixed() const { return size > 0; }
};

struct TensorSpec {
  std::string name;
  DType dtype = DType::kFloat32;
  std::vector<Dimension> shape;
};

// "image float32 (batch, 3, 224, 224)"
std::string text_of(const std::vector<TensorSpec>& specs);

struct Decode {};
struct Resize {
  int width = 0, height = 0;
  bool keep_ratio = false;
  int interpolation = 0;  // OpenCV's
};
enum class Edge { kShort, kLong, kWidth, kHeight };
struct ResizeEdge {
  int size = 0;
  Edge edge = Edge::kShort;
  int interpolation = 0;  // OpenCV's
};
struct CenterCrop {
  int width = 0, height = 0;
};
struct Pad {
  std::optional<int> width, height, divisor;
  bool square = false;
  std::vector<double> value{0.0};  // one or three
};
struct Normalize {
  std::vector<double> mean, std;  // one or three each
  bool reverse_channels = false;
};
using Step = std::variant<Decode, Resize, ResizeEdge, CenterCrop, Pad, Normalize>;

struct ClassificationOutput {
  std::int64_t topk = 5;
};
struct Window {
  int height = 0, width = 0, stride_height = 0, stride_width = 0;
};
struct SegmentationOutput {
  bool align_corners = false;
  std::optional<double> threshold;
  std::optional<Window> window;
};
struct Masks {
  bool over_box = false;  // else over the whole image
  double threshold = 0.5;
};
struct DetectionOutput {
  double score_threshold = 0.3;
  bool clip = false;
  std::optional<Masks> masks;
};
using Postprocess = std::variant<ClassificationOutput, SegmentationOutput, DetectionOutput>;

struct Manifest {
  std::string name;
  std::vector<std::string> classes;
  std::vector<Colour> palette;  // empty: none
  TensorSpec input;
  std::vector<TensorSpec> outputs;
  std::vector<Step> preprocess;
  Postprocess postprocess;
  std::map<std::string, std::string> files;  // name → SHA-256

  // "classification", "segmentation", "detection"
  std::string_view task() const;
};

// Validate a manifest's JSON; `where` begins the text of the BundleError for whatever does not fit.
Manifest parse_manifest(std::string_view text, const std::string& where);

// Read and validate a bundle's manifest. Hashes are checked by `check_files`.
Manifest read_manifest(const std::filesystem::path& bundle);

// "model.onnx", "model.fp16.onnx", "model.int8.onnx"
std::string graph_named(std::string_view precision);

// Compare the graph of a precision, and the external data beside it, with the manifest's hashes. Throws BundleError,
// also where the bundle has no graph of that precision.
void check_files(const std::filesystem::path& bundle, const Manifest& manifest, std::string_view precision);

}  // namespace slipway
