#include "manifest.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "error.hpp"
#include "sha256.hpp"

namespace slipway {
namespace {

constexpr std::array<std::pair<std::string_view, DType>, 7> kDTypes{{{"float32", DType::kFloat32},
                                                                     {"float16", DType::kFloat16},
                                                                     {"uint8", DType::kUint8},
                                                                     {"int8", DType::kInt8},
                                                                     {"int32", DType::kInt32},
                                                                     {"int64", DType::kInt64},
                                                                     {"bool", DType::kBool}}};

}  // namespace

std::string_view name_of(DType dtype) {
  for (const auto& [name, value] : kDTypes)
    if (value == dtype) return name;
  return "unknown";
}

std::optional<DType> dtype_named(std::string_view name) {
  for (const auto& [known, value] : kDTypes)
    if (known == name) return value;
  return std::nullopt;
}

std::string text_of(const std::vector<TensorSpec>& specs) {
  std::string text;
  for (const auto& spec : specs) {
    if (!text.empty()) text += ", ";
    text += spec.name + " " + std::string(name_of(spec.dtype)) + " (";
    for (std::size_t axis = 0; axis < spec.shape.size(); ++axis) {
      const auto& dimension = spec.shape[axis];
      text += (axis ? ", " : "") + (dimension.is_fixed() ? std::to_string(dimension.size) : dimension.symbol);
    }
    text += ")";
  }
  return text;
}

std::string_view Manifest::task() const {
  constexpr std::array<std::string_view, 3> names{"classification", "segmentation", "detection"};
  return names[postprocess.index()];
}

Manifest read_manifest(const std::filesystem::path& bundle) {
  const auto path = bundle / kManifestName;
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  std::error_code ignored;
  if (!file || !std::filesystem::is_regular_file(path, ignored)) {
    throw BundleError(path.string() + ": not a bundle's manifest (" + std::strerror(errno ? errno : EINVAL) +
                      "); a bundle is a folder made by `make export-…`");
  }
  return parse_manifest(text.str(), path.string());
}

std::string graph_named(std::string_view precision) {
  return precision == "fp32" ? std::string(kGraphName) : "model." + std::string(precision) + ".onnx";
}

namespace {

// Throws BundleError, which names the precisions that are there.
void check_precision(const std::filesystem::path& bundle, const Manifest& manifest, std::string_view precision) {
  if (manifest.files.contains(graph_named(precision))) return;
  if (precision == "fp32")
    throw BundleError(bundle.string() + ": the manifest names no '" + std::string(kGraphName) + "'");
  std::string found;
  for (const auto name : kPrecisions)
    if (manifest.files.contains(graph_named(name))) found += (found.empty() ? "" : ", ") + std::string(name);
  throw BundleError(bundle.string() + ": no graph in " + std::string(precision) + ", this bundle has " +
                    (found.empty() ? "none" : found) +
                    "; make it with `make export-… PRECISION=" + std::string(precision) + "`");
}

}  // namespace

void check_files(const std::filesystem::path& bundle, const Manifest& manifest, std::string_view precision) {
  check_precision(bundle, manifest, precision);
  for (const auto& [name, expected] : manifest.files) {
    // The graph and, beside it, its external data.
    if (!name.starts_with(graph_named(precision))) continue;
    const auto path = bundle / name;
    const auto found = sha256_of(path);
    if (!found) {
      throw BundleError(path.string() + ": cannot be read, though the manifest names it (" + std::strerror(errno) +
                        "); export again");
    }
    if (*found != expected) {
      throw BundleError(path.string() + ": content was altered (sha256 " + found->substr(0, 12) + "…, manifest says " +
                        expected.substr(0, 12) + "…); export again");
    }
  }
}

}  // namespace slipway
