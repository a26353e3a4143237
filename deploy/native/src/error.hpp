// Errors meant for the user, each with the exit code that the command line gives: those of `slipway_runtime.errors`.
#pragma once

#include <cctype>
#include <stdexcept>
#include <string>

namespace slipway {

// The text says what was expected, what was found and what to do, in one line.
struct Error : std::runtime_error {
  int exit_code;

 protected:
  Error(const std::string& text, int code) : std::runtime_error(text), exit_code(code) {}
};

// A wrong argument.
struct UsageError : Error {
  explicit UsageError(const std::string& text) : Error(text, 2) {}
};

// A bundle that is missing, incomplete, altered or of an unknown schema.
struct BundleError : Error {
  explicit BundleError(const std::string& text) : Error(text, 3) {}
};

// An image that cannot be read as one.
struct ImageError : Error {
  explicit ImageError(const std::string& text) : Error(text, 3) {}
};

// An engine or device that this machine lacks, or an input that the engine refuses.
struct SessionError : Error {
  explicit SessionError(const std::string& text) : Error(text, 4) {}
};

// Outputs that cannot be a prediction.
struct VerificationError : Error {
  explicit VerificationError(const std::string& text) : Error(text, 5) {}
};

// What a library says, of any length, as a part of such a line.
inline std::string one_line(const char* text) {
  std::string line;
  for (const char* at = text; *at && line.size() < 300; ++at) {
    const bool space = std::isspace(static_cast<unsigned char>(*at)) != 0;
    if (!space || (!line.empty() && line.back() != ' ')) line += space ? ' ' : *at;
  }
  return line;
}

}  // namespace slipway
