// PNG by libpng.
#pragma once

#include <cstdint>
#include <opencv2/core.hpp>
#include <span>
#include <string>

#include "image.hpp"

namespace slipway {

bool is_png(std::span<const std::uint8_t> data);

// Decode to CV_8UC3 BGR, EXIF orientation applied; an empty image where the data is no whole PNG. Throws ImageError,
// which begins with `name`, for too many pixels.
cv::Mat decode_png(std::span<const std::uint8_t> data, const std::string& name);

// Encode CV_8UC3 BGR.
Bytes encode_png(const cv::Mat& image);

// Encode CV_8UC1 whose values are places in the palette, of 1 to 256 colours.
Bytes encode_index_png(const cv::Mat& labels, std::span<const Colour> palette);

}  // namespace slipway
