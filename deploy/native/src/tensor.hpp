// What a graph gives: named arrays on the host.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "error.hpp"
#include "manifest.hpp"

namespace slipway {

// An array and whatever keeps its memory alive. Copies share the memory.
struct Tensor {
  std::string name;
  DType dtype = DType::kFloat32;
  std::vector<std::int64_t> shape;
  const void* data = nullptr;
  std::shared_ptr<const void> owner;

  std::int64_t count() const {
    std::int64_t product = 1;
    for (const auto size : shape) product *= size;
    return product;
  }
  template <typename T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

// The outputs of one run of the graph, in the manifest's order; all floating-point ones are float32 and finite.
using Outputs = std::vector<Tensor>;

// Throws VerificationError where there is none: the graph's outputs were compared with the manifest's when it was
// opened.
inline const Tensor& output_named(const Outputs& outputs, std::string_view name) {
  for (const auto& output : outputs)
    if (output.name == name) return output;
  throw VerificationError("the graph gave no output '" + std::string(name) + "'; verify the export");
}

}  // namespace slipway
