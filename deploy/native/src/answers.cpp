#include "answers.hpp"

#include "sha256.hpp"

namespace slipway {
namespace {

std::size_t bytes_of(DType dtype) {
  switch (dtype) {
    case DType::kInt64:
      return 8;
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kFloat16:
      return 2;
    default:
      return 1;
  }
}

std::string hash_of(const void* data, std::size_t size) {
  return sha256_of(std::span(static_cast<const std::byte*>(data), size));
}

}  // namespace

std::string json_line(const std::string& name, const Result& result) {
  Json line{{"image", name}};
  line.update(result.to_json());
  // Names of files need not be UTF-8, JSON must.
  return line.dump(-1, ' ', true, Json::error_handler_t::replace);
}

Json hashes_of(const Outputs& outputs) {
  Json hashes = Json::object();
  for (const auto& output : outputs)
    hashes[output.name] = hash_of(output.data, static_cast<std::size_t>(output.count()) * bytes_of(output.dtype));
  return hashes;
}

std::string hash_of(const cv::Mat& labels) {
  const cv::Mat whole = labels.isContinuous() ? labels : labels.clone();
  return hash_of(whole.data, whole.total() * whole.elemSize());
}

}  // namespace slipway
