#include "image.hpp"

#include <algorithm>
#include <optional>
#include <string_view>

#include "error.hpp"
#include "jpeg.hpp"
#include "png.hpp"

namespace slipway {
namespace {

using Data = std::span<const std::uint8_t>;

std::int64_t big_endian(Data data, std::size_t at, std::size_t count) {
  std::int64_t value = 0;
  for (const auto byte : data.subspan(at, count)) value = value << 8 | byte;
  return value;
}

struct Size {
  std::int64_t width, height;
};

// SOF0 to SOF15 without DHT, JPG and DAC (ITU-T T.81, table B.1): the segments that hold the size.
bool holds_jpeg_size(std::uint8_t marker) {
  return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

std::optional<Size> jpeg_size(Data data) {
  std::size_t at = 2;
  while (at + 9 <= data.size() && data[at] == 0xFF) {
    const auto marker = data[at + 1];
    if (holds_jpeg_size(marker)) return Size{big_endian(data, at + 7, 2), big_endian(data, at + 5, 2)};
    // 0xFF fills up; TEM and RSTn stand alone; any other marker has a length.
    const bool alone = marker == 0x01 || (marker >= 0xD0 && marker <= 0xD7);
    at += marker == 0xFF ? 1 : alone ? 2 : 2 + static_cast<std::size_t>(big_endian(data, at + 2, 2));
  }
  return std::nullopt;
}

// Width and height from the header, before a library makes anything of it.
std::optional<Size> encoded_size(Data data) {
  if (is_png(data) && data.size() >= 24) return Size{big_endian(data, 16, 4), big_endian(data, 20, 4)};
  return is_jpeg(data) ? jpeg_size(data) : std::nullopt;
}

bool starts_with(Data data, std::string_view text) {
  return data.size() >= text.size() &&
         std::equal(text.begin(), text.end(), data.begin(),
                    [](char left, std::uint8_t right) { return static_cast<std::uint8_t>(left) == right; });
}

// The name of a format that only `slipway_runtime` reads.
std::string_view foreign_format(Data data) {
  using namespace std::string_view_literals;
  if (starts_with(data, "RIFF") && data.size() >= 12 && starts_with(data.subspan(8), "WEBP")) return "WebP";
  if (starts_with(data, "BM")) return "BMP";
  if (starts_with(data, "II*\0"sv) || starts_with(data, "MM\0*"sv)) return "TIFF";
  if (starts_with(data, "GIF8")) return "GIF";
  return {};
}

[[noreturn]] void refuse(Data data, const std::string& name) {
  if (const auto format = foreign_format(data); !format.empty())
    throw ImageError(name + ": a " + std::string(format) + " image, expected JPEG or PNG; convert it");
  throw ImageError(name + ": not a whole image (" + std::to_string(data.size()) + " bytes); expected JPEG or PNG");
}

bool ends_with(const std::string& name, std::string_view ending) {
  const auto lower = [](char letter) {
    return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 32) : letter;
  };
  return name.size() >= ending.size() && std::equal(ending.rbegin(), ending.rend(), name.rbegin(),
                                                    [&](char left, char right) { return left == lower(right); });
}

}  // namespace

void check_size(std::int64_t width, std::int64_t height, const std::string& name) {
  // Divided, not multiplied: the product of two sizes from a file may be more than 64 bits hold.
  if (width > 0 && height > 0 && width <= kMaxPixels / height) return;
  throw ImageError(name + ": " + std::to_string(width) + "×" + std::to_string(height) + " pixels, expected 1 to " +
                   std::to_string(kMaxPixels));
}

cv::Mat decode(std::span<const std::uint8_t> data, const std::string& name) {
  if (const auto size = encoded_size(data)) check_size(size->width, size->height, name);
  cv::Mat image;
  try {
    if (is_jpeg(data)) image = decode_jpeg(data, name);
    if (is_png(data)) image = decode_png(data, name);
  } catch (const cv::Exception& error) {
    throw ImageError(name + ": not a readable image (" + error.err + ")");
  }
  if (image.empty()) refuse(data, name);
  return image;
}

Bytes encode(const cv::Mat& image, const std::string& name) {
  if (ends_with(name, ".jpg") || ends_with(name, ".jpeg")) return encode_jpeg(image, name);
  if (ends_with(name, ".png")) return encode_png(image);
  throw UsageError(name + ": expected a name that ends in .jpg, .jpeg or .png");
}

Bytes encode_labels(const cv::Mat& labels, std::span<const Colour> palette) {
  return encode_index_png(labels, palette);
}

}  // namespace slipway
