// Any text at all is a manifest or a BundleError in one line.
#include "manifest.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    slipway::parse_manifest({reinterpret_cast<const char*>(data), size}, "fuzzed");
  } catch (const slipway::BundleError& error) {
    const std::string_view said = error.what();
    if (!said.starts_with("fuzzed: ") || said.find('\n') != said.npos || said.size() > 1000) std::abort();
  }
  return 0;
}
