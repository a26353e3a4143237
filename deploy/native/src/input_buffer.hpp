// The graph's input: a batch of float32 arrays in the graph's own data type, side by side in memory that is reused.
#pragma once

#include <cstdint>
#include <vector>

#include "manifest.hpp"
#include "task.hpp"

namespace slipway {

class InputBuffer {
 public:
  explicit InputBuffer(const TensorSpec& spec) : spec_(spec) {}

  // Lay out a batch as N×C×H×W. Where the graph's batch is fixed and larger, the last image is repeated; float16 is
  // rounded to nearest even, integers too, and cut to their range. An array that already is what the graph takes is not
  // copied: it must live as long as the buffer's content is used. Throws SessionError for a shape that does not fit.
  void fill(const Batch& batch);

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  const std::vector<std::int64_t>& shape() const { return shape_; }

 private:
  void check_shape() const;
  std::int64_t size_named(const std::string& symbol) const;

  const TensorSpec& spec_;
  std::vector<std::int64_t> shape_;
  std::vector<std::uint8_t> storage_;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace slipway
