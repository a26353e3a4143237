#include "input_buffer.hpp"

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "error.hpp"

namespace slipway {
namespace {

template <typename T>
T converted(float value) {
  if constexpr (std::is_same_v<T, Ort::Float16_t>) {
    return Ort::Float16_t(value);
  } else {
    const float low = std::numeric_limits<T>::min(), high = std::numeric_limits<T>::max();
    // In this order NaN becomes the least value.
    return static_cast<T>(std::min(std::max(low, std::nearbyint(value)), high));
  }
}

template <typename T>
void copy_row(const float* from, void* to, int count) {
  if constexpr (std::is_same_v<T, float>)
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
  else
    std::transform(from, from + count, static_cast<T*>(to), converted<T>);
}

struct Kind {
  std::size_t size;
  void (*copy)(const float*, void*, int);
};

Kind kind_of(const TensorSpec& spec) {
  switch (spec.dtype) {
    case DType::kFloat32:
      return {sizeof(float), copy_row<float>};
    case DType::kFloat16:
      return {sizeof(Ort::Float16_t), copy_row<Ort::Float16_t>};
    case DType::kUint8:
      return {sizeof(std::uint8_t), copy_row<std::uint8_t>};
    case DType::kInt8:
      return {sizeof(std::int8_t), copy_row<std::int8_t>};
    default:
      throw SessionError("onnxruntime: input '" + spec.name + "' is " + std::string(name_of(spec.dtype)) +
                         ", images can be float32, float16, uint8 or int8");
  }
}

}  // namespace

void InputBuffer::fill(const Batch& batch) {
  const auto count = static_cast<std::int64_t>(batch.arrays.size());
  const auto fixed = spec_.shape[0].size;
  shape_ = {std::max(count, fixed), batch.channels, batch.size.height, batch.size.width};
  check_shape();
  const auto kind = kind_of(spec_);
  const auto width = static_cast<std::size_t>(batch.size.width), area = static_cast<std::size_t>(batch.size.area());
  const auto plane_bytes = area * kind.size;
  bytes_ = static_cast<std::size_t>(shape_[0]) * batch.channels * plane_bytes;
  if (spec_.dtype == DType::kFloat32 && shape_[0] == 1 && batch.row_stride == width && batch.plane_stride == area) {
    data_ = const_cast<float*>(batch.arrays[0]);  // ONNX Runtime's API knows no constant tensors
    return;
  }
  storage_.resize(bytes_);
  data_ = storage_.data();
  auto* to = storage_.data();
  for (std::int64_t image = 0; image < shape_[0]; ++image) {
    const auto* array = batch.arrays[static_cast<std::size_t>(std::min(image, count - 1))];
    for (int c = 0; c < batch.channels; ++c) {
      for (int y = 0; y < batch.size.height; ++y, to += width * kind.size)
        kind.copy(array + c * batch.plane_stride + static_cast<std::size_t>(y) * batch.row_stride, to,
                  batch.size.width);
    }
  }
}

// The size of the first axis of this name: axes of one name have one size.
std::int64_t InputBuffer::size_named(const std::string& symbol) const {
  std::size_t axis = 0;
  while (spec_.shape[axis].is_fixed() || spec_.shape[axis].symbol != symbol) ++axis;
  return shape_[axis];
}

void InputBuffer::check_shape() const {
  bool fits = true, fixed = true;
  std::string found, expected;
  for (std::size_t axis = 0; axis < shape_.size(); ++axis) {
    const auto& dimension = spec_.shape[axis];
    fits = fits && shape_[axis] == (dimension.is_fixed() ? dimension.size : size_named(dimension.symbol));
    fixed = fixed && dimension.is_fixed();
    found += (axis ? ", " : "") + std::to_string(shape_[axis]);
    expected += (axis ? ", " : "") + (dimension.is_fixed() ? std::to_string(dimension.size) : dimension.symbol);
  }
  if (!fits) {
    throw SessionError("onnxruntime: input '" + spec_.name + "' has shape (" + found + "), expected (" + expected +
                       ")" + (fixed ? "; export with SHAPE=dynamic for other sizes" : ""));
  }
}

}  // namespace slipway
