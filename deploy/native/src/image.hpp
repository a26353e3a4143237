// Images: encoded bytes → uint8 H×W×3 BGR as `slipway_runtime.image` decodes them, and drawings → encoded bytes.
#pragma once

#include <array>
#include <cstdint>
#include <opencv2/core.hpp>
#include <span>
#include <string>
#include <vector>

namespace slipway {

using Bytes = std::vector<std::uint8_t>;
// Red, green, blue.
using Colour = std::array<std::uint8_t, 3>;

// The most pixels an image may have, before and after resizing: 805 MB as uint8 BGR.
inline constexpr std::int64_t kMaxPixels = std::int64_t{1} << 28;

// Refuse (ImageError) a width×height of no or too many pixels; `name` begins the text.
void check_size(std::int64_t width, std::int64_t height, const std::string& name);

// Decode a JPEG or PNG to CV_8UC3 BGR: EXIF orientation applied, grey repeated, alpha dropped, the upper 8 of 16 bits
// kept. Throws ImageError, which begins with `name`, for anything that is no whole image or has too many pixels.
cv::Mat decode(std::span<const std::uint8_t> data, const std::string& name);

// Encode CV_8UC3 BGR in the format that the file name's ending says (".jpg", ".jpeg", ".png", in any case; JPEG quality
// 95). Throws UsageError, which begins with `name`, for another ending.
Bytes encode(const cv::Mat& image, const std::string& name);

// A label map, CV_8UC1, as a PNG whose pixel values are the labels and whose palette gives their colours.
Bytes encode_labels(const cv::Mat& labels, std::span<const Colour> palette);

}  // namespace slipway
