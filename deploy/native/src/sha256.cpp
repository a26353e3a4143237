#include "sha256.hpp"

#include <sha2.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <vector>

namespace slipway {
namespace {

class Sha256 {
 public:
  Sha256() { SHA256Init(&context_); }
  void add(const void* data, std::size_t size) {
    SHA256Update(&context_, static_cast<const std::uint8_t*>(data), size);
  }
  std::string text() {
    std::array<char, SHA256_DIGEST_STRING_LENGTH> text;
    return SHA256End(&context_, text.data());
  }

 private:
  SHA2_CTX context_;
};

}  // namespace

std::string sha256_of(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.add(bytes.data(), bytes.size());
  return hash.text();
}

std::optional<std::string> sha256_of(const std::filesystem::path& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) {
    if (!errno) errno = EISDIR;
    return std::nullopt;
  }
  Sha256 hash;
  std::vector<char> chunk(std::size_t{1} << 20);
  while (file) {
    file.read(chunk.data(), static_cast<std::streamsize>(chunk.size()));
    hash.add(chunk.data(), static_cast<std::size_t>(file.gcount()));
  }
  return hash.text();
}

}  // namespace slipway
