// Any bytes at all are an image or an ImageError.
#include "image.hpp"

#include <cstddef>
#include <cstdint>

#include "error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    slipway::decode({data, size}, "fuzzed");
  } catch (const slipway::ImageError&) {
  }
  return 0;
}
