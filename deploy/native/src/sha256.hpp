// SHA-256 (FIPS 180-4), in hexadecimal.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

namespace slipway {

std::string sha256_of(std::span<const std::byte> bytes);

// Of a file's content; nothing where it cannot be read, and errno says why.
std::optional<std::string> sha256_of(const std::filesystem::path& path);

}  // namespace slipway
